"""The queue of jobs: coroutines put jobs in, the device thread takes out those of the next step.

This module knows nothing of what is done with a job.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from foredraft_engine.errors import DeviceLostError
from foredraft_engine.job import Job
from foredraft_engine.scheduling.caller import Caller, acting_for
from foredraft_engine.scheduling.rejoining import Rejoining
from foredraft_engine.scheduling.row_pool import RowPool
from foredraft_engine.scheduling.step_pace import StepPace
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.scheduling.step_turns import StepTurns

_PIECE_S = 0.001
# Jobs with a deadline join a step that a sequence waits for if they lengthen it by no more than
# this share.
_DELAY = 0.25
# The largest number of chunks in a step.
_MOST_CHUNKS = 4


@dataclass(slots=True)
class Waiting:
    """A job and the coroutine that awaits it."""

    job: Job
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    caller: Caller | None = None
    """The caller for whom it waits; None if nobody said so."""


class JobQueue:
    """All jobs that wait for the device."""

    def __init__(
        self,
        chunk_tokens: int,
        step_times: StepTimes,
        pool: RowPool,
    ) -> None:
        """
        Args:
            chunk_tokens: the largest number of tokens in a step of several jobs, where there are as
                many texts as prompts.
            step_times: how long steps take, by their tokens.
            pool: says which rows sequences hold.
        """
        self._chunk_tokens, self._step_times = chunk_tokens, step_times
        self._pool, self._rejoining = pool, Rejoining(pool.is_lent)
        self._turns = StepTurns()
        self._pace = StepPace(step_times)
        self._goes_on = False  # whether jobs of the last step need another
        self._submitted: list[Waiting] = []  # in this turn of the event loop
        self._queue: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._end: BaseException = asyncio.CancelledError()  # of those who wait when it closes

    async def submit(self, job: Job) -> Any:
        """Queues a job and returns its result.

        Raises:
            DeviceLostError: the device is lost.
        """
        if self._closed and isinstance(self._end, DeviceLostError):
            raise self._end
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._submitted:
            # Jobs are handed over at the end of this turn, so that coroutines that were resumed
            # together share a step.
            loop.call_soon(self._hand_over)
        self._submitted.append(Waiting(job, future, loop, acting_for()))
        return await future

    def _hand_over(self) -> None:
        with self._changed:
            submitted, self._submitted = self._submitted, []
            if not self._closed:
                self._queue.extend(submitted)
                self._rejoining.came(_rows(submitted), time.perf_counter())
                submitted = []
            self._changed.notify()
        resolve(submitted, [self._end] * len(submitted))

    def close(self, error: DeviceLostError | None = None) -> None:
        """Ends the queue.

        Args:
            error: what those who wait get; without it they are cancelled.
        """
        with self._changed:
            self._closed, self._end = True, error or self._end
            left = list(self._queue) if error else []
            self._changed.notify()
        resolve(left, [error] * len(left))

    # The device thread calls what follows.

    def next(self) -> tuple[list[Waiting], float]:
        """Waits for the jobs of the next step.

        Returns:
            The jobs, none once the queue is closed, and the seconds that it waited.
        """
        began = time.perf_counter()
        with self._changed:
            while not (batch := self._take_together()) and not self._closed:
                self._changed.wait()
            if self._closed:
                batch += self._queue
                self._queue.clear()
        waited_s = time.perf_counter() - began
        if self._closed:
            resolve(batch, [self._end] * len(batch))
            return [], waited_s
        return batch, waited_s

    def left(self, finished: Sequence[Waiting], step_s: float) -> None:
        """Records that a step of `step_s` is about to hand out the results of these jobs."""
        with self._changed:
            self._rejoining.left(_rows(finished), step_s, time.perf_counter())

    def put_back(self, unfinished: Sequence[Waiting]) -> None:
        """Queues jobs that need another step before all others."""
        with self._changed:
            self._goes_on = bool(unfinished)
            self._queue.extendleft(reversed(unfinished))

    def _take_together(self) -> list[Waiting]:
        """Waits for the sequences that are about to come back, and removes the jobs of one step.

        A proposal that is being drafted waits for nobody.
        """
        goes_on, self._goes_on = self._goes_on, False
        while not goes_on and self._queue and not self._closed:
            left_s = self._rejoining.wait_s(time.perf_counter())
            if left_s <= 0:
                break
            # In short pieces, because a sequence that ends returns its row without a word.
            self._changed.wait(min(left_s, _PIECE_S))
        return self._take()

    def _take(self) -> list[Waiting]:
        """Removes the jobs of one step from the queue.

        Jobs that a sequence waits for come first, by turns, up to the tokens of one step; then
        those with a deadline, the most urgent first. A step is larger where it holds up fewer
        texts than prompts: a token of a prompt costs less the more of them are read together.
        """
        batch: list[Waiting] = []
        tokens = 0
        waiting = [w for w in self._queue if not w.future.cancelled()]
        most = self._chunk_tokens * min(max(1, self._pool.prompts_by_text), _MOST_CHUNKS)
        wanted = self._turns.ordered([w for w in waiting if w.job.wanted_by is None])
        for one in self._pace.allowed(wanted, most):
            if batch and tokens + one.job.tokens_fed > most:
                break
            batch.append(one)
            tokens += one.job.tokens_fed
        room = self._room(tokens)
        for one in sorted((w for w in waiting if w.job.wanted_by is not None), key=_wanted_by):
            if batch and tokens + one.job.tokens_fed > room:
                break
            batch.append(one)
            tokens += one.job.tokens_fed
        self._turns.took(batch)
        taken = set(map(id, batch))
        self._queue = deque(w for w in waiting if id(w) not in taken)
        return batch

    def _room(self, tokens: int) -> int:
        """Returns how many tokens a step may have in all.

        Args:
            tokens: those of the jobs that a sequence waits for.
        """
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


def _rows(jobs: Sequence[Waiting]) -> Iterator[int]:
    """Yields the row of each job that a sequence waits for."""
    return (w.job.feeds[0].row for w in jobs if w.job.feeds and w.job.wanted_by is None)


def _wanted_by(waiting: Waiting) -> float:
    wanted_by = waiting.job.wanted_by
    return float("inf") if wanted_by is None else wanted_by


def resolve(batch: Sequence[Waiting], results: Sequence[Any]) -> None:
    """Hands the results to the coroutines, with one call for each event loop."""
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
