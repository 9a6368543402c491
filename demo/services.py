"""Both services on loopback, as processes with their logs in files.

This module knows nothing of what is asked of them.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from demo.pair import ROOT, Pair
from foredraft import Client, DeadlineExceededError

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 20.0


class NotStartedError(RuntimeError):
    """A service ended before it was ready."""


@dataclass(frozen=True, slots=True)
class _Service:
    kind: str
    process: "subprocess.Popen[bytes]"
    log: Path


@contextmanager
def running(pair: Pair, logs: Path) -> Iterator[Client]:
    """Runs a target, and its draft, for the time of the context; yields a client of the target.

    Raises:
        NotStartedError: a service ended, or was not ready in time.
    """
    with serving(pair, logs) as address, Client(address) as client:
        yield client


@contextmanager
def serving(pair: Pair, logs: Path) -> Iterator[str]:
    """Runs a target, and its draft, for the time of the context; yields the address of it.

    One row, so that no answer begins with what is left of another one to the same question.

    Raises:
        NotStartedError: a service ended, or was not ready in time.
    """
    with ExitStack() as stack:
        address, services = free_address(), []
        verifying = ["--model", str(pair.target), "--rows", "1", "--listen", address]
        if pair.draft:
            drafts = free_address()
            drafting = ["--model", str(pair.draft), "--threads", "1", "--listen", drafts]
            services.append(stack.enter_context(_service("draft", logs, drafting)))
            verifying += ["--draft", drafts]
        services.append(stack.enter_context(_service("target", logs, verifying)))
        with Client(address) as client:
            _wait(client, services)
        yield address


@contextmanager
def _service(kind: str, logs: Path, flags: list[str]) -> Iterator[_Service]:
    log = logs / f"{kind}.log"
    with log.open("wb") as told:
        command = [sys.executable, "-m", f"{kind}_service", "--dtype", "float32"]
        command += ["--metrics-listen", free_address(), *flags]
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told, env=os.environ)
    try:
        yield _Service(kind, process, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(client: Client, services: list[_Service]) -> None:
    """Waits until the target answers and has its draft, if there is one."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        for service in services:
            if service.process.poll() is not None:
                raise NotStartedError(f"the {service.kind} service ended, see {service.log}")
        with suppress(DeadlineExceededError):
            if all(s == "ready" for s in client.wait_until_ready(1.0).drafts.values()):
                return
            time.sleep(0.2)
    logs = " and ".join(str(service.log) for service in services)
    raise NotStartedError(f"not ready in {_START_TIMEOUT_S:.0f} s, see {logs}")


def free_address() -> str:
    """Returns an address of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
