"""Everybody whom `benchmarks.beside_vllm` compares: how they are started, stopped for the time of
another's turn, and asked.

This module knows nothing of rates and tables.
"""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.callers import SERVED_NAME
from benchmarks.services import free_port, service
from benchmarks.worker import ROOT, Worker

CORES = sorted(os.sched_getaffinity(0))[:2]
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
_START_S = 300.0
_STOP_S = 20.0
_ROWS = 16
# Who is stopped in the middle of a step takes it for a long one afterwards.
_SETTLE_S = 0.5
_VLLM_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; sixteen texts of 256 tokens take 0.2 in float32
    # Of two cores, vLLM reserves one for its other processes, which makes it slower here.
    "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, CORES)),
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOOPBACK_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}


class NotStartedError(RuntimeError):
    """A server did not come up."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One who generates, and the process that does it, with all of its children."""

    name: str
    pid: int
    worker: Worker
    """Whom jobs are sent to: callers of a server, or the engine itself."""
    job: dict[str, Any] = field(default_factory=dict)
    turns: int = 1_000
    """The number of repetitions that it takes part in."""

    def ask(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> dict[str, Any]:
        """Generates for all prompts at once, and is stopped again afterwards."""
        self._signal(signal.SIGCONT)
        try:
            return self.worker.ask(
                prompts=[list(prompt) for prompt in prompts], new_tokens=new_tokens, **self.job
            )
        finally:
            time.sleep(_SETTLE_S)
            self.stop()

    def stop(self) -> None:
        """Stops all of its threads, so that nothing of it runs in another's turn."""
        self._signal(signal.SIGSTOP)

    def _signal(self, what: signal.Signals) -> None:
        main = psutil.Process(self.pid)
        for process in (main, *main.children(recursive=True)):
            process.send_signal(what)


@dataclass(frozen=True, slots=True)
class Place:
    """Where peers run: the model, its data type, the callers and a folder for logs."""

    model: Path
    dtype: str
    callers: Worker
    folder: Path
    stack: ExitStack

    def foredraft(self, name: str, flags: Sequence[str], fields: dict[str, Any]) -> Peer:
        """Starts a target service."""
        own = ("--dtype", self.dtype, "--rows", str(_ROWS), *flags)
        log = self.folder / f"foredraft-{self.dtype}.log"
        running = self.stack.enter_context(service("target", self.model, CORES, log, *own))
        job = {"way": "foredraft", "address": running.address, "fields": fields}
        return Peer(name, running.pid, self.callers, job)

    def vllm(self, name: str, *flags: str) -> Peer:
        """Starts vLLM's own server.

        Raises:
            NotStartedError: it did not come up.
        """
        own = ("--dtype", self.dtype, "--max-num-seqs", str(_ROWS), "--max-model-len", "1024")
        log = self.folder / f"{name.replace(' ', '-').replace(',', '')}-{self.dtype}.log"
        address, pid = self.stack.enter_context(_vllm(self.model, log, (*own, *flags)))
        return Peer(name, pid, self.callers, {"way": "openai", "address": address, "fields": {}})

    def transformers(self) -> tuple[Peer, Peer]:
        """Starts transformers; returns it as one padded batch, and by continuous batching."""
        arguments = ("--model", str(self.model), "--dtype", self.dtype)
        log = self.folder / f"transformers-{self.dtype}.log"
        worker = self.stack.enter_context(Worker("benchmarks.batches", CORES, log, *arguments))
        return (
            Peer("transformers, one batch", worker.pid, worker, {"way": "padded"}),
            Peer("transformers, generate_batch", worker.pid, worker, {"way": "continuous"}, 1),
        )


@contextmanager
def _vllm(model: Path, log: Path, flags: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Runs vLLM's OpenAI server for the time of the context; gives its address and process."""
    port = free_port()
    # The wheel of the CPU build is not called vllm, which the command `vllm serve` asks for.
    command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", SERVED_NAME, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-enable-prefix-caching", "--disable-uvicorn-access-log", *flags]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | _VLLM_ENVIRONMENT
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=said, stderr=said)
    os.sched_setaffinity(process.pid, CORES)
    try:
        _wait_for_health(process, port, log)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        _end(process)


def _wait_for_health(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        time.sleep(0.2)
    raise NotStartedError(f"vLLM did not come up in {_START_S:.0f} s:\n{log.read_text()[-1500:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the server and all of its workers, which may be stopped."""
    family = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait(_STOP_S)
