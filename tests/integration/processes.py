"""Services as processes of their own, as an operator starts them.

They are forked from a server process that has imported torch and transformers, which saves five
seconds of CPU at every start. `tests/integration/test_start.py`, `tests/deploy` and the test of the
wheel start services from nothing.
"""

import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foredraft_serving.probe import is_serving
from foredraft_serving.server import READINESS

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "demo" / "models"
PATIENCE_S = 240.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    condition: Callable[[], bool],
    patience_s: float = 60.0,
    every_s: float = 0.02,
    otherwise: Callable[[], str] = str,
) -> None:
    """Waits until a condition holds; fails with what `otherwise` returns if it does not."""
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
        alone = flags.index("--health-listen") + 1 if "--health-listen" in flags else None
        self._probed = self.address if alone is None else flags[alone]
        listen = ["--listen", self.address, "--metrics-listen", self.metrics_address]
        threads = ["--threads", "1"] if "--model" in flags else []
        arguments = [f"{kind}_service", *listen, *threads, *flags]
        self._process = _forked().Process(target=_serve, args=(arguments, str(log), environment()))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id of the service."""
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Sends a signal to the service."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the service and waits for its end."""
        self._process.kill()
        self._process.join(PATIENCE_S)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Waits for the service to end; returns its exit code.

        Raises:
            TimeoutError: the service still runs.
        """
        self._process.join(patience_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"the service still runs after {patience_s} s")
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """The exit code, None while the service runs."""
        return self._process.exitcode

    def wait_ready(self) -> None:
        """Waits until the service's health says SERVING."""
        until(self._is_ready, PATIENCE_S, 0.1, self.log.read_text)

    def _is_ready(self) -> bool:
        assert self.returncode is None, self.log.read_text()
        return is_serving(self._probed, READINESS)

    def stop(self) -> int:
        """Sends SIGTERM; returns the exit code."""
        self._process.terminate()
        return self.wait()


def _forked() -> multiprocessing.context.ForkServerContext:
    """Returns the context whose server process has imported what a service needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["draft_service.serve", "target_service.serve"])
    return context


def _serve(arguments: list[str], log: str, surroundings: dict[str, str]) -> None:
    """Runs `python -m SERVICE FLAGS` in this process, with both outputs in the log."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.environ.clear()
    os.environ |= surroundings
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


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
        process.kill()
