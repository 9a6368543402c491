"""`foredraft gateway`: what it starts, what it says, and that nothing is left running."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli import main

# Stands in for SMG: tells how it was called, serves the list of models, and ends as it is told.
_STAND_IN = """#!{python}
import http.server, json, os, signal, sys
flags = sys.argv[2:]
path = {folder!r}
open(path + "/called", "w").write(json.dumps([os.getpid(), sys.argv[1:]]))
if "--ends" in flags:
    print("no such flag", file=sys.stderr)
    sys.exit(3)
def told(signum, _):
    open(path + "/told", "a").write(signal.Signals(signum).name + " ")
    if "--stays" not in flags:
        os._exit(0)
for name in (signal.SIGTERM, signal.SIGINT):
    signal.signal(name, told)
asked = []
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        # A model is listed before it can be called.
        is_early = self.path == "/readiness" and ("--empty" in flags or len(asked) < 3)
        self.send_response(503 if is_early else 200)
        self.end_headers()
        open(path + "/asked", "w").write(" ".join(asked))
        self.wfile.write(json.dumps({{"data": [{{"id": "a model's"}}]}}).encode())
    def log_message(self, *_): pass
at = flags[flags.index("--host") + 1], int(flags[flags.index("--port") + 1])
http.server.HTTPServer(at, Answer).serve_forever()
"""


@pytest.fixture
def smg(tmp_path: Path) -> Path:
    """A program that stands in for SMG."""
    file = tmp_path / "smg"
    file.write_text(_STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    file.chmod(0o755)
    return file


def _started(smg: Path, *flags: str) -> "subprocess.Popen[str]":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "foredraft.cli",
            "gateway",
            f"--smg={smg}",
            f"--listen={listen}",
            *flags,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _called(smg: Path) -> tuple[int, list[str]]:
    pid, flags = json.loads((smg.parent / "called").read_text())
    return pid, flags


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_says_where_it_answers_and_ends_with_a_signal(
    smg: Path, signum: signal.Signals, code: int
) -> None:
    targets = ["10.0.0.6:50052", "[fd00::7]:50052"]
    process = _started(smg, *targets, "--smg-flags=--policy round_robin")
    assert process.stdout
    url = process.stdout.readline().split("API is at ")[1].split("/v1")[0]
    process.stdout.readline()
    curl = process.stdout.readline() + process.stdout.readline()
    assert curl.startswith(f"curl {url}/v1/completions")
    said = subprocess.run(
        ["sh", "-c", 'curl() { printf %s "$5"; }\n' + curl],
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert json.loads(said)["model"] == "a model's"
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    pid, flags = _called(smg)
    assert flags[-5:] == ["--policy", "round_robin", "--worker-urls"] + [
        f"grpc://{target}" for target in targets
    ]
    assert flags[flags.index("--host") + 1] == "127.0.0.1"
    assert (smg.parent / "asked").read_text() == "/readiness /readiness /readiness /v1/models"
    assert (smg.parent / "told").read_text() == f"{signum.name} "
    assert _is_gone(pid)


def test_a_second_signal_ends_what_the_first_did_not(smg: Path) -> None:
    process = _started(smg, "--smg-flags=--stays")
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while not (smg.parent / "told").exists():  # the first one has not come through
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert _is_gone(_called(smg)[0])


def test_its_own_end_is_an_error(smg: Path) -> None:
    process = _started(smg, "--smg-flags=--ends")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.endswith(
        "no such flag\nforedraft: the gateway ended with code 3; its lines above say why\n"
    )


def test_no_target_in_time(smg: Path) -> None:
    process = _started(smg, "10.0.0.6:1", "--wait", "1", "--smg-flags=--empty")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.endswith("foredraft: no target was ready in 1 s: 10.0.0.6:1\n")
    if (smg.parent / "called").exists():  # a busy machine may not have come that far
        assert _is_gone(_called(smg)[0])


REFUSED: dict[str, tuple[list[str], str]] = {
    "not installed": ([], 'the gateway SMG is not installed: `pip install "foredraft[openai]"`'),
    "no file": (["--smg", "/none"], "--smg: /none: No such file or directory"),
    "open to all": (["--listen", "0.0.0.0:8000"], "--listen: everybody who reaches 0.0.0.0"),
    "no port": (["10.0.0.6"], '"10.0.0.6" has no port'),
    "a name of gRPC": (["unix:/socket"], '"unix:/socket" is not HOST:PORT'),
}


@pytest.mark.parametrize(("flags", "told"), REFUSED.values(), ids=REFUSED)
def test_refusals(
    flags: list[str], told: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/none/python")
    with contextlib.suppress(SystemExit):  # of wrong usage
        assert main(["gateway", *flags]) == 1
    assert told in capsys.readouterr().err
