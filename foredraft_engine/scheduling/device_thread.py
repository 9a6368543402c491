"""The one thread that uses the device: it turns the jobs that wait into steps.

This module knows nothing of the kinds of jobs, or of the sequences that they belong to.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from foredraft_engine.job import UNFINISHED, Job
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.job_queue import JobQueue, Waiting, resolve
from foredraft_engine.scheduling.step import Step, finish_without_pass, step
from foredraft_engine.scheduling.step_times import StepTimes


class DeviceThread:
    """Runs jobs, as many together as a step has room for."""

    def __init__(
        self,
        rows: Rows,
        vocabulary_size: int,
        chunk_tokens: int,
        step_times: StepTimes,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        """
        Args:
            vocabulary_size: ids from here on are padding and never chosen.
            chunk_tokens: the largest number of tokens in a step of several jobs.
            step_times: is told how long every step took.
            on_step: is called after every step, on this thread.
        """
        self._rows, self._vocabulary_size = rows, vocabulary_size
        self._step_times, self._on_step = step_times, on_step
        self._queue = JobQueue(chunk_tokens, step_times)
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
        with torch.inference_mode():
            while True:
                batch, waited_s = self._queue.next()
                if not batch:
                    return
                try:
                    calls = [w for w in batch if not w.job.feeds]
                    resolve(calls, finish_without_pass([w.job for w in calls]))
                    unfinished = self._step([w for w in batch if w.job.feeds], waited_s)
                except Exception as error:
                    # A step that fails is a failure of its requests, not of the engine.
                    resolve(batch, [error] * len(batch))
                    unfinished = []
                self._queue.put_back(unfinished)

    def _step(self, batch: Sequence[Waiting], waited_s: float) -> list[Waiting]:
        """Runs one step; returns the jobs that need another."""
        if not batch:
            return []
        jobs = [w.job for w in batch]
        tokens = sum(job.tokens_fed for job in jobs)  # before the jobs have moved on
        made = step(self._rows, jobs, self._vocabulary_size)
        pairs = list(zip(batch, made.results, strict=True))
        done = [(w, result) for w, result in pairs if result is not UNFINISHED]
        resolve([w for w, _ in done], [result for _, result in done])
        self._step_times.observe(tokens, len(jobs), made.forward_s + made.logits_s)
        if self._on_step:
            self._on_step(Step(waited_s, made.forward_s, made.logits_s, len(jobs), tokens))
        return [w for w, result in pairs if result is UNFINISHED]
