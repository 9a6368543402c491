"""Threads of their own for what would hold up the event loop, with a bounded queue before them.

This module knows nothing of what is computed.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from foredraft_serving.overload import OverloadError

P = ParamSpec("P")
T = TypeVar("T")

# Python runs one thread at a time. Long work sleeps this often and for this share of the time that
# it has spent, so that the event loop and the device thread come to their turns.
_EVERY_S, _REST = 0.002, 1.0


class WorkLeftError(Exception):
    """The caller for whom a thread works has gone."""


class _Work:
    """What a thread does for one caller."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self._began = 0.0

    def begin(self) -> None:
        """Begins, unless the caller left while it waited."""
        self._began = time.thread_time()
        self.breathe()

    def breathe(self) -> None:
        if self.left.is_set():
            raise WorkLeftError
        # A wait for the interpreter is no work to rest from.
        if (spent_s := time.thread_time() - self._began) > _EVERY_S:
            time.sleep(spent_s * _REST)
            self._began = time.thread_time()


_WORK: ContextVar[_Work | None] = ContextVar("work", default=None)


def breathe() -> None:
    """Gives way to other threads; long work calls this between its parts.

    Raises:
        WorkLeftError: the caller for whom this thread works has gone.
    """
    if work := _WORK.get():
        work.breathe()


class WorkerPool:
    """A few threads; a caller waits for one of them, unless too many others do."""

    def __init__(
        self,
        name: str,
        threads: int,
        max_waiting: int,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """
        Args:
            name: what the threads are for, as the metric of refusals calls it.
            max_waiting: the largest number of callers that wait for a thread.
            on_refused: is called with the reason when a caller is refused.
        """
        self._name, self._most, self._on_refused = name, threads + max_waiting, on_refused
        self._executor = ThreadPoolExecutor(threads, name)
        self._inside = 0

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function in a thread. If the caller leaves, it ends where it next breathes.

        Raises:
            OverloadError: too many callers wait.
        """
        work = _Work()

        def begin() -> T:
            _WORK.set(work)
            work.begin()
            try:
                return call(*args, **kwargs)
            finally:
                _WORK.set(None)

        with self._place():
            try:
                return await asyncio.get_running_loop().run_in_executor(self._executor, begin)
            finally:
                work.left.set()

    def close(self) -> None:
        """Ends the threads, after what they do now."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._inside >= self._most:
            self._on_refused(self._name)
            raise OverloadError(self._name, f"too many calls wait for {self._name}")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
