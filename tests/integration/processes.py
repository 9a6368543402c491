"""Services as processes of their own, as an operator starts them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foredraft_serving.probe import is_serving
from foredraft_serving.server import READINESS

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "demo" / "models"
PATIENCE_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    condition: Callable[[], bool],
    patience_s: float = 10.0,
    every_s: float = 0.02,
    otherwise: Callable[[], str] = str,
) -> None:
    """Waits for it; fails when it does not come, and says what `otherwise` has to say."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(every_s)


class Process:
    """One service. The log goes to a file that the test can read."""

    def __init__(self, kind: str, log: Path, port: int, *flags: str) -> None:
        self.address = f"127.0.0.1:{port}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.log = log
        command = [
            sys.executable,
            "-m",
            f"{kind}_service",
            "--listen",
            self.address,
            "--threads",
            "1",
        ]
        command += ["--metrics-listen", self.metrics_address, *flags]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=out, env=environment()
            )

    def wait_ready(self) -> None:
        """Until its health says SERVING."""
        until(self._is_ready, PATIENCE_S, 0.1, self.log.read_text)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return is_serving(self.address, READINESS)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


def environment() -> dict[str, str]:
    quiet = {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
    }
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return {**os.environ, **quiet, "PYTHONPATH": path}


@contextmanager
def service(kind: str, log: Path, *flags: str, port: int = 0) -> Iterator[Process]:
    process = Process(kind, log, port or free_port(), *flags)
    try:
        process.wait_ready()
        yield process
    finally:
        process.process.kill()
        process.process.wait()
