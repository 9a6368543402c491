"""The API token of a client, and the command that makes one."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foredraft import AsyncClient, Client, InvalidRequestError, tls
from foredraft.cli import main
from foredraft.wire.api_tokens import TOKEN_LIMITS, token_digest
from tests.certificates import Authority
from tests.sdk.fake_target import FakeTarget

Capture = pytest.CaptureFixture[str]
Target = Callable[..., FakeTarget]
ELSEWHERE = "10.0.0.6:50052"


def test_it_is_a_header_of_every_call(target: Target) -> None:
    fake = target()
    with Client(fake.address, token="secret") as client:
        client.generate("a")
    assert fake.metadata[-1]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_it_goes_to_other_machines_by_tls_alone(kind: Any, tmp_path: Path) -> None:
    for address in (ELSEWHERE, ["127.0.0.1:1", ELSEWHERE]):
        with pytest.raises(InvalidRequestError, match="in plain text") as refused:
            kind(address, token="secret")
        assert refused.value.field == "token"
        assert "secret" not in str(refused.value)
    kind(ELSEWHERE, token="secret", credentials=tls(ca=Authority(tmp_path).ca))
    kind(ELSEWHERE, metadata={"authorization": "Bearer secret"})


@pytest.mark.parametrize("token", ["", "two words", "line\n", "Öl", 5])
def test_what_is_no_token_is_refused(token: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^token: takes printable ASCII"):
        Client(token=token)
    with pytest.raises(InvalidRequestError, match=r"^token: metadata has 'authorization', too"):
        Client(token="secret", metadata={"Authorization": "Bearer other"})


def test_the_command_line_takes_it_from_a_file_or_the_environment(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    fake = target()
    info = ["generate", "a", "--address", fake.address]
    (tmp_path / "token").write_text("filed\n")
    monkeypatch.setenv("FOREDRAFT_TOKEN", "surrounding")
    assert main(info) == 0
    assert fake.metadata[-1]["authorization"] == "Bearer surrounding"
    assert main([*info, "--token-file", str(tmp_path / "token")]) == 0
    assert fake.metadata[-1]["authorization"] == "Bearer filed"
    assert main([*info, "--insecure"]) == 0
    assert fake.metadata[-1]["authorization"] == "Bearer surrounding"
    monkeypatch.setenv("FOREDRAFT_TOKEN_FILE", str(tmp_path / "token"))
    assert main(info) == 0
    assert fake.metadata[-1]["authorization"] == "Bearer filed"
    capsys.readouterr()
    assert main([*info, "--token-file", "/no/such"]) == 1
    assert (
        capsys.readouterr().err == "foredraft: --token-file: /no/such: No such file or directory\n"
    )
    assert main(["info", "--address", ELSEWHERE]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"foredraft: the token would go to {ELSEWHERE} in plain text")
    assert "--insecure" in told


def test_token_new_prints_the_token_and_what_a_service_has_to_know(capsys: Capture) -> None:
    flags = [part for n in TOKEN_LIMITS for part in ("--" + n.replace("_", "-"), "7")]
    assert main(["token", "new", "--name", "alice", *flags]) == 0
    token, _, lines = capsys.readouterr().out.partition("\n\n")
    assert tomllib.loads(lines) == {
        "alice": {"sha256": token_digest(token), **dict.fromkeys(TOKEN_LIMITS, 7)}
    }
    assert main(["token", "new", "--name", "alice"]) == 0
    assert token not in capsys.readouterr().out, "each one is another"


def test_token_new_appends_to_a_file(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "tokens.toml"
    new = ["token", "new", "--append", str(file), "--name"]
    printed = []
    for name in ("alice", "bob"):
        assert main([*new, name]) == 0
        printed.append(capsys.readouterr().out.removesuffix("\n"))
    assert tomllib.loads(file.read_text()) == {
        name: {"sha256": token_digest(token)}
        for name, token in zip(("alice", "bob"), printed, strict=True)
    }
    assert main([*new, "bob"]) == 1
    assert capsys.readouterr().err == f"foredraft: --name: {file} has a token bob already\n"
    assert main(["token", "new", "--append", str(tmp_path / "no" / "such"), "--name", "a"]) == 1
    assert "cannot write" in capsys.readouterr().err
    for wrong in (["--name", "a b"], ["--name", "a", "--max-sequences", "0"], []):
        with pytest.raises(SystemExit) as refused:
            main(["token", "new", *wrong])
        assert refused.value.code == 2
