"""What waits for the device: coroutines put their jobs in, the device thread takes out what becomes
one step.

Knows nothing of what is done with a job.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foredraft_engine.scheduling.jobs import DeviceCall, DraftJob, ScoreJob
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.speculation.tree_job import TreeJob
from foredraft_engine.speculation.verify_job import VerifyJob

Job = ScoreJob | VerifyJob | DraftJob | TreeJob | DeviceCall
# Trees join a step that somebody waits for, if they lengthen it by no more than this share.
_DELAY = 0.25


@dataclass(slots=True)
class Waiting:
    """A job and the coroutine that awaits it."""

    job: Job
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class JobQueue:
    """All jobs that wait."""

    def __init__(self, chunk_tokens: int, step_times: StepTimes) -> None:
        """chunk_tokens: of a step, beyond what a single job needs."""
        self._chunk_tokens, self._step_times = chunk_tokens, step_times
        self._submitted: list[Waiting] = []  # of this turn of the event loop
        self._queue: deque[Waiting] = deque()
        self._wanted = threading.Condition()
        self._closed = False
        self.waited_s = 0.0
        """How long the device thread waited for its last batch."""

    async def submit(self, job: Job) -> Any:
        """Waits for the job's result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._submitted:
            # Handed over at the end of this turn, so that coroutines resumed together step
            # together.
            loop.call_soon(self._hand_over)
        self._submitted.append(Waiting(job, future, loop))
        return await future

    def _hand_over(self) -> None:
        with self._wanted:
            self._queue.extend(self._submitted)
            self._submitted = []
            self._wanted.notify()

    def close(self) -> None:
        """The device thread gets no more; coroutines that still wait are cancelled."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()

    # What follows is for the device thread.

    def next(self) -> list[Waiting]:
        """The jobs of the next step, in the order of their rows; none when the queue is closed."""
        began = time.perf_counter()
        with self._wanted:
            while not (batch := self._take()) and not self._closed:
                self._wanted.wait()
            if self._closed:
                batch += self._queue
                self._queue.clear()
        self.waited_s = time.perf_counter() - began
        if self._closed:
            resolve(batch, [asyncio.CancelledError()] * len(batch))
            return []
        return sorted(batch, key=lambda w: w.job.row)

    def put_back(self, unfinished: Sequence[Waiting]) -> None:
        """Jobs that want another step: before all others."""
        with self._wanted:
            self._queue.extendleft(reversed(unfinished))

    def _take(self) -> list[Waiting]:
        """What somebody waits for, in order, up to the tokens of one step;

        then trees, the most urgent first.
        """
        batch: list[Waiting] = []
        tokens = 0
        waiting = [w for w in self._queue if not w.future.cancelled()]
        trees = sorted((w for w in waiting if isinstance(w.job, TreeJob)), key=_deadline)
        for one in [w for w in waiting if not isinstance(w.job, TreeJob)]:
            if batch and tokens + len(one.job.ids) > self._chunk_tokens:
                break
            batch.append(one)
            tokens += len(one.job.ids)
        most = self._room_for_trees(tokens)
        for one in trees:
            if batch and tokens + len(one.job.ids) > most:
                break
            batch.append(one)
            tokens += len(one.job.ids)
        taken = set(map(id, batch))
        self._queue = deque(w for w in waiting if id(w) not in taken)
        return batch

    def _room_for_trees(self, tokens: int) -> int:
        """Tokens of a step with trees, when it has so many without."""
        if not tokens:
            return self._chunk_tokens
        alone_s, most = self._step_times.at(tokens), tokens
        while (
            alone_s
            and most < self._chunk_tokens
            and (self._step_times.at(most + 8) or 0.0) <= (1 + _DELAY) * alone_s
        ):
            most += 8
        return most


def _deadline(waiting: Waiting) -> float:
    assert isinstance(waiting.job, TreeJob)
    return waiting.job.deadline


def resolve(batch: Sequence[Waiting], results: Sequence[Any]) -> None:
    """Gives the results to the coroutines, one call for each event loop."""
    loops: dict[int, tuple[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]]] = {}
    for waiting, result in zip(batch, results, strict=True):
        loops.setdefault(id(waiting.loop), (waiting.loop, []))[1].append((waiting.future, result))
    for loop, pairs in loops.values():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, asyncio.CancelledError):
            future.cancel()
        elif isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
