"""Certificates of a caller: what is wrong with a file is told by its name, before a call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foredraft import InvalidRequestError, tls
from foredraft.cli import main
from tests.certificates import Authority
from tests.sdk.fake_target import FakeTarget

Capture = pytest.CaptureFixture[str]


def _junk(folder: Path) -> str:
    (folder / "junk").write_text("no certificate")
    return str(folder / "junk")


_FAULTS: dict[str, tuple[str, Callable[[Authority, Path], dict[str, Any]]]] = {
    "cert and key go together": ("key", lambda a, d: {"cert": a.issue().cert}),
    "cert: cert and key go together": ("cert", lambda a, d: {"key": a.issue().key}),
    "/no/such: No such file": ("ca", lambda a, d: {"ca": "/no/such"}),
    "Is a directory": ("ca", lambda a, d: {"ca": str(d)}),
    "holds no certificate in PEM": ("ca", lambda a, d: {"ca": _junk(d)}),
    "are no certificate and its key in PEM": (
        "key",
        lambda a, d: {"cert": a.issue().cert, "key": _junk(d)},
    ),
    "in PEM, unencrypted": ("key", lambda a, d: vars(a.issue(password=b"secret"))),
    "they do not belong together": (
        "key",
        lambda a, d: {"cert": a.issue().cert, "key": a.issue().key},
    ),
}


@pytest.mark.parametrize("told", _FAULTS)
def test_a_file_that_cannot_be_used_is_named(told: str, tmp_path: Path, capsys: Capture) -> None:
    field, make = _FAULTS[told]
    files = make(Authority(tmp_path), tmp_path)
    with pytest.raises(InvalidRequestError) as refused:
        tls(**files)
    assert told in str(refused.value)
    assert refused.value.field == field
    assert main(["info", *(part for n, path in files.items() for part in (f"--{n}", path))]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"foredraft: --{field}: ")
    assert told.removeprefix("cert: ") in message


def test_the_environment_names_the_files_too(
    monkeypatch: pytest.MonkeyPatch, target: Callable[..., FakeTarget], capsys: Capture
) -> None:
    monkeypatch.setenv("FOREDRAFT_ADDRESS", target().address)
    assert main(["info"]) == 0
    for name, told in (("CA", "--ca: /no/such"), ("CERT", "--key: "), ("KEY", "--cert: ")):
        monkeypatch.setenv(f"FOREDRAFT_{name}", "/no/such")
        assert main(["info"]) == 1
        assert capsys.readouterr().err.startswith(f"foredraft: {told}")
        monkeypatch.delenv(f"FOREDRAFT_{name}")


def test_tls_is_asked_for_by_a_flag_or_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, target: Callable[..., FakeTarget], capsys: Capture
) -> None:
    info = ["info", "--address", target().address]
    assert main([*info, "--tls"]) == 1
    assert "it speaks plain text and no TLS" in capsys.readouterr().err
    for value, code in (("1", 1), ("true", 1), ("0", 0), ("false", 0), ("", 0)):
        monkeypatch.setenv("FOREDRAFT_TLS", value)
        assert main(info) == code
    capsys.readouterr()
    monkeypatch.setenv("FOREDRAFT_TLS", "yes please")
    assert main(info) == 1
    assert "FOREDRAFT_TLS: 'yes please' is not true or false" in capsys.readouterr().err
