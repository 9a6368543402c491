"""Targets and a gateway as processes, for the clients of others.

The targets run in the project's environment, and the gateway in that of the tests, where the SDK
is, too.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "demo" / "models" / "target"
PYTHON = ROOT / ".venv" / "bin" / "python"
PATIENCE_S = 240.0


def free_address() -> str:
    """Returns an address of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def with_template(folder: Path, template: str) -> Path:
    """Returns a folder with the bundled target and a chat template, which it has not."""
    for file in MODEL.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(template)
    return folder


@dataclass(frozen=True)
class Target:
    """A running target service."""

    address: str
    metrics: str
    process: "subprocess.Popen[bytes]"

    def value(self, name: str) -> float:
        """Returns a metric's value now."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=60) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextmanager
def target(model: Path, log: Path, *flags: str, address: str = "") -> Iterator[Target]:
    """Runs a target service for the time of the context; it may not be ready yet.

    Args:
        address: where it listens; an address that is free if there is none.
    """
    address, metrics = address or free_address(), free_address()
    command = [str(PYTHON), "-m", "target_service", "--model", str(model), "--dtype", "float32"]
    command += ["--threads", "1", "--listen", address, "--metrics-listen", metrics, *flags]
    with log.open("wb") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told, env=paths())
    try:
        yield Target(address, metrics, process)
    finally:
        process.kill()
        process.wait()


@contextmanager
def gateway(log: Path, *targets: str, flags: str = "") -> Iterator[str]:
    """Runs `foredraft gateway` for the time of the context; yields its URL.

    Args:
        flags: flags of SMG's own.
    """
    listen = free_address()
    command = [sys.executable, "-m", "foredraft.cli", "gateway", *targets, "--listen", listen]
    command += ["--metrics-listen", free_address(), f"--smg-flags={flags}"]
    with log.open("ab") as told:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, env=paths())
    try:
        assert process.stdout
        assert process.stdout.readline(), log.read_text()
        yield f"http://{listen}"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def paths() -> dict[str, str]:
    """Returns the environment of a process that imports what lies here."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"}
