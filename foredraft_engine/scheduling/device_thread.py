"""The one thread that uses the device: it turns the jobs that wait into steps.

This module knows nothing of the kinds of jobs, or of the sequences that they belong to.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foredraft_engine.errors import DeviceLostError
from foredraft_engine.job import UNFINISHED, Job
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.job_queue import JobQueue, Waiting, resolve
from foredraft_engine.scheduling.row_pool import RowPool
from foredraft_engine.scheduling.step import Step, finish_without_pass, step
from foredraft_engine.scheduling.step_times import StepTimes

log = logging.getLogger(__name__)


def use_device(device: torch.device) -> None:
    """Computes something on a device; raises what the device raises once it is lost."""
    torch.ones(1, device=device).add(1).item()


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the device thread calls, on itself."""

    on_step: Callable[[Step], None] | None = None
    """Is called after every step."""
    on_lost: Callable[[str], None] | None = None
    """Is called with the reason when the device is lost, after which nothing is served."""
    use: Callable[[torch.device], None] = use_device
    """Uses the device after a failure of a job, and raises if the device is lost."""


class DeviceThread:
    """Runs jobs, as many together as a step has room for."""

    def __init__(
        self,
        rows: Rows,
        vocabulary_size: int,
        chunk_tokens: int,
        step_times: StepTimes,
        callbacks: Callbacks,
        pool: RowPool,
    ) -> None:
        """
        Args:
            vocabulary_size: ids from here on are padding and never chosen.
            chunk_tokens: the largest number of tokens in a step of several jobs.
            step_times: is told how long every step took.
            pool: says which rows sequences hold.
        """
        self._rows, self._vocabulary_size = rows, vocabulary_size
        self._step_times, self._callbacks = step_times, callbacks
        self._queue = JobQueue(chunk_tokens, step_times, pool)
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    async def submit(self, job: Job) -> Any:
        """Runs a job and returns its result."""
        return await self._queue.submit(job)

    def close(self) -> None:
        """Ends the thread; coroutines that still wait are cancelled."""
        self._queue.close()
        self._thread.join()

    # Everything below runs on the thread itself.

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._serve():
                    pass
        except BaseException as error:
            log.critical("the device is lost, and the process has to end", exc_info=error)
            reason = f"the device is lost: {type(error).__name__}: {error}"
            if on_lost := self._callbacks.on_lost:
                on_lost(reason)
            self._queue.close(DeviceLostError(reason))

    def _serve(self) -> bool:
        """Runs the jobs that wait as one step; returns whether there will be more.

        Raises:
            Exception: the device is lost. What jobs do wrong is a result of those jobs.
        """
        batch, waited_s = self._queue.next()
        if not batch:
            return False
        try:
            calls = [w for w in batch if not w.job.feeds]
            resolve(calls, finish_without_pass([w.job for w in calls]))
            unfinished = self._step([w for w in batch if w.job.feeds], waited_s)
        except BaseException:
            self._queue.put_back(batch)  # which the end of the queue fails, as all others
            raise
        self._queue.put_back(unfinished)
        return True

    def _step(self, batch: Sequence[Waiting], waited_s: float) -> list[Waiting]:
        """Runs one step; returns the jobs that need another."""
        if not batch:
            return []
        jobs = [w.job for w in batch]
        tokens = sum(job.tokens_fed for job in jobs)  # before the jobs have moved on
        made = step(self._rows, jobs, self._vocabulary_size)
        if any(isinstance(result, Exception) for result in made.results):
            self._callbacks.use(self._rows.device)
        pairs = list(zip(batch, made.results, strict=True))
        done = [(w, result) for w, result in pairs if result is not UNFINISHED]
        spent_s = made.forward_s + made.logits_s
        self._queue.left([w for w, _ in done], spent_s)
        resolve([w for w, _ in done], [result for _, result in done])
        passes, tokens = 1 + len(made.following), tokens + sum(made.following)
        timed_s = spent_s / passes if any(job.is_timed for job in jobs) else None
        self._step_times.observe(round(tokens / passes), len(jobs), timed_s)
        if on_step := self._callbacks.on_step:
            on_step(Step(waited_s, made.forward_s, made.logits_s, len(jobs), tokens))
        return [w for w, result in pairs if result is UNFINISHED]
