"""What is wrong with certificates is told when a service starts, by the flag that names them."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from draft_service.settings import DraftSettings
from foredraft_serving.certificates import Certificates
from foredraft_serving.settings import SettingsError
from foredraft_serving.tls import server_certificates
from target_service.drafting.draft_channel import draft_credentials
from target_service.settings import TargetSettings, check
from tests.certificates import Authority, Files


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def _of(files: Files) -> dict[str, Any]:
    return {"tls_cert": files.cert, "tls_key": files.key}


def _draft(files: Files) -> dict[str, str]:
    return {"draft_cert": files.cert, "draft_key": files.key}


def _junk(folder: Path) -> str:
    (folder / "junk").write_text("-----BEGIN CERTIFICATE-----\njunk\n")
    return str(folder / "junk")


_FAULTS: list[tuple[Callable[[Authority, Path], dict[str, Any]], str]] = [
    (lambda a, d: {"tls_cert": a.issue().cert}, "--tls-cert needs --tls-key"),
    (lambda a, d: {"tls_key": a.issue().key}, "--tls-key needs --tls-cert"),
    (lambda a, d: {"client_ca": a.ca}, "--client-ca needs --tls-cert"),
    (
        lambda a, d: {"tls_cert": "/no/such", "tls_key": a.issue().key},
        r"--tls-cert /no/such: No such file",
    ),
    (
        lambda a, d: {**_of(a.issue()), "client_ca": str(d)},
        r"--client-ca \S+: Is a directory",
    ),
    (
        lambda a, d: {"tls_cert": a.issue().cert, "tls_key": a.issue().key},
        r"--tls-key \S+ is not the key of --tls-cert \S+: they do not belong together",
    ),
    (lambda a, d: {**_of(a.issue()), "tls_cert": _junk(d)}, "--tls-cert .* no certificate in PEM"),
    (lambda a, d: {**_of(a.issue()), "tls_key": _junk(d)}, "--tls-key .* no private key in PEM"),
    (lambda a, d: {**_of(a.issue()), "client_ca": _junk(d)}, "--client-ca .* no certificate"),
    (lambda a, d: _of(a.issue(password=b"x")), "--tls-key .* encrypted; give a key without"),
    (lambda a, d: _of(a.issue(lasts=timedelta(days=-1))), "--tls-cert .*: it expired at 20"),
    (
        lambda a, d: {"draft": "a:1", **_draft(a.issue())},
        "--draft-cert does nothing without --draft-ca",
    ),
    (lambda a, d: {"draft_ca": a.ca}, "--draft-ca does nothing without --draft"),
    (lambda a, d: {"draft": "a:1", "draft_ca": "/no/such"}, "--draft-ca /no/such: No such file"),
    (
        lambda a, d: {"draft": "a:1", "draft_ca": a.ca, "draft_cert": a.issue().cert},
        "--draft-cert needs --draft-key",
    ),
]


@pytest.mark.parametrize(("settings", "told"), _FAULTS, ids=[told for _, told in _FAULTS])
def test_faults_are_told_by_the_flag(
    authority: Authority,
    tmp_path: Path,
    settings: Callable[[Authority, Path], dict[str, Any]],
    told: str,
) -> None:
    given = settings(authority, tmp_path)
    with pytest.raises(SettingsError, match=told):
        _all_of(given)


def _all_of(given: dict[str, Any]) -> None:
    target = replace(TargetSettings(), model="m", **given)
    check(target)
    server_certificates(target)
    draft_credentials(target)


def test_both_services_have_the_flags_of_a_server(authority: Authority) -> None:
    given = {**_of(authority.issue()), "client_ca": authority.ca}
    assert server_certificates(TargetSettings()) is None
    assert server_certificates(DraftSettings()) is None
    assert server_certificates(replace(TargetSettings(), **given)) is not None
    assert server_certificates(replace(DraftSettings(), **given)) is not None


def _read(certificates: Certificates) -> bytes | None:
    return certificates.current().cert


def test_a_renewed_certificate_is_taken_when_its_key_is_there_too(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files, new = authority.issue(), authority.issue()
    before, after = (Path(f.cert).read_bytes() for f in (files, new))
    certificates = server_certificates(replace(TargetSettings(), **_of(files)))
    assert certificates is not None
    assert _read(certificates) == before
    Path(files.cert).write_bytes(after)
    for _ in range(3):
        assert _read(certificates) == before
    (warning,) = caplog.messages
    assert re.search("stays in force: --tls-key .* do not belong together", warning)
    files.replace(new)
    with caplog.at_level("INFO"):
        assert _read(certificates) == after
    assert "read again" in caplog.messages[-1]
    Path(files.key).unlink()
    assert _read(certificates) == after
    assert "No such file" in caplog.messages[-1]
