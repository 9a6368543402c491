"""A process of its own on cores of its own that answers jobs one after another: JSON lines over
pipes.

This module knows nothing of what the jobs are.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
}


def start(
    command: Sequence[str],
    cores: Sequence[int],
    log: Path,
    pipes: bool = False,
    python: str = sys.executable,
) -> "subprocess.Popen[str]":
    """Starts a Python process on these cores; its stderr goes to the log."""
    pipe = subprocess.PIPE if pipes else None
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [python, *command],
            cwd=ROOT,
            env={**os.environ, **_QUIET},
            stdin=pipe,
            stdout=pipe or errors,
            stderr=errors,
            text=True,
        )
    # The cores are set before there is any other thread, since new threads inherit them.
    os.sched_setaffinity(process.pid, cores)
    return process


class WorkerError(RuntimeError):
    """The worker ended in the middle of a job."""


class Worker:
    """The caller's side of a worker."""

    def __init__(
        self,
        module: str,
        cores: Sequence[int],
        log: Path,
        *arguments: str,
        python: str = sys.executable,
    ) -> None:
        """Starts a worker.

        Args:
            module: the module whose main calls `serve`.
            python: the interpreter.
        """
        self._module, self._log = module, log
        command = ["-m", module, *arguments, "--threads", str(len(cores))]
        self._process = start(command, cores, log, pipes=True, python=python)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **job: Any) -> dict[str, Any]:
        """Sends a job; returns the answer.

        Raises:
            WorkerError: the worker died of the job.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise WorkerError(f"{self._module} died:\n{self._log.read_text()[-2000:]}")
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers jobs on the worker's side until nobody asks any more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not answer
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
