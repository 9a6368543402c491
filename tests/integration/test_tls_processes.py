"""TLS of services as an operator starts them: probes, the log, a start that is refused, and the
commands of the documentation.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli import main
from foredraft_serving.probe import is_serving
from foredraft_serving.server import LIVENESS, READINESS
from foredraft_serving.settings import read
from target_service.settings import TargetSettings
from tests.certificates import Authority, Files
from tests.deploy.rendered import SETTINGS
from tests.fakes import TableRows, random_table, table_model
from tests.integration.processes import ROOT, environment, free_port, service, until
from tests.loopback import draft_service, target_service

DOCUMENT = ROOT / "docs" / "security.md"


def _flags(files: Files, client_ca: str = "") -> list[str]:
    asked = ["--client-ca", client_ca] if client_ca else []
    return ["--tls-cert", files.cert, "--tls-key", files.key, *asked]


def test_probes_need_no_certificate_at_the_port_for_health(tmp_path: Path) -> None:
    authority, health = Authority(tmp_path), f"127.0.0.1:{free_port()}"
    flags = ["--ngram", "only", "--health-listen", health]
    flags += _flags(authority.issue(), authority.ca)
    with service("draft", tmp_path / "log", *flags) as draft:
        assert is_serving(health, LIVENESS)
        assert is_serving(health, READINESS)
        assert not is_serving(draft.address, READINESS)


@contextmanager
def _from_nothing(log: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a draft service whose gRPC logs what it logs by default."""
    surroundings = {k: v for k, v in environment().items() if k != "GRPC_VERBOSITY"}
    command = [sys.executable, "-m", "draft_service", "--ngram", "only"]
    command += ["--metrics-listen", "127.0.0.1:0", *flags]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=surroundings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_log_says_why_a_caller_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    address, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    callers = {
        "": "WRONG_VERSION_NUMBER",
        f"--ca {ours.ca}": "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        "--ca {0} --cert {1.cert} --key {1.key}".format(
            ours.ca, theirs.issue("caller")
        ): "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
    }
    with _from_nothing(log, "--listen", address, *_flags(ours.issue(), ours.ca)):
        until(lambda: "ready on" in log.read_text(), 60, otherwise=log.read_text)
        for flags, told in callers.items():
            assert told not in log.read_text()
            assert main(["info", "--address", address, *shlex.split(flags)]) == 1
            until(lambda told=told: told in log.read_text(), otherwise=log.read_text)  # type: ignore[misc]
            assert all(f"`{part}`" in DOCUMENT.read_text() for part in told.split(": "))


def test_a_start_with_files_that_do_not_belong_together_ends_in_a_line(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = Files(authority.issue().cert, authority.issue().key)
    with _from_nothing(tmp_path / "log", *_flags(files)) as process:
        assert process.wait(60) == 1
    (line,) = (tmp_path / "log").read_text().splitlines()[-1:]
    told = r"draft service: --tls-key \S+ is not the key of --tls-cert \S+: they do not belong"
    assert re.match(told, line)


def _section(title: str) -> str:
    """Returns the commands of a section of the documentation, for this machine."""
    text = DOCUMENT.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^(?:    (.*))?$", text, re.MULTILINE)
    return re.sub(r"10\.0\.0\.\d", "127.0.0.1", "\n".join(lines))


def _settings(kind: str, commands: str) -> dict[str, Any]:
    """Returns the certificates of a service that is started in a section."""
    (given,) = re.findall(rf"^foredraft-{kind} ((?:.*\\\n)*.*)", commands, re.MULTILINE)
    settings = asdict(read(SETTINGS[kind], "", shlex.split(given.replace("\\\n", " ")), {}))
    return {
        name: value
        for name, value in settings.items()
        if re.fullmatch(r"(tls|client|draft)_(ca|cert|key)", name)
    }


def _make(commands: str, folder: Path) -> None:
    told = subprocess.run(
        ["bash", "-ec", commands], cwd=folder, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


async def test_the_commands_of_the_documentation_make_certificates_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = _section("With openssl")
    await asyncio.to_thread(_make, commands.partition("foredraft-draft")[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    table, model = random_table(10, 0), table_model(10)
    asking = re.findall(r"^foredraft (.*)$", commands, re.MULTILINE)[0]
    drafting, targeting = (_settings(kind, commands) for kind in ("draft", "target"))
    async with (
        draft_service(TableRows(table), model, ngram="off", **drafting) as draft,
        target_service(TableRows(table), model, draft.address, **targeting) as target,
    ):
        flags = shlex.split(asking.replace("127.0.0.1:50052", target.address))
        assert await asyncio.to_thread(main, flags) == 0
        assert f"drafts      {draft.address}: ready" in capsys.readouterr().out


def test_the_documentation_names_all_flags() -> None:
    text = DOCUMENT.read_text()
    flags = [
        f"--{field.replace('_', '-')}"
        for field in TargetSettings.__dataclass_fields__
        if re.search(r"_(ca|cert|key)$", field)
    ]
    assert len(flags) == 6
    assert [flag for flag in flags if f"`{flag}`" not in text] == []
    assert os.path.basename(DOCUMENT) in (ROOT / "SECURITY.md").read_text()
