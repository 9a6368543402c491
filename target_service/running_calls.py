"""The calls that run, by the names that their callers gave them, so that a caller can end one from
another connection.

This module knows nothing of what a call does.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class AbortedError(Exception):
    """The caller has ended the call by its name."""


class RunningCalls:
    """All calls of a service that can be aborted."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], list[asyncio.Future[None]]] = {}

    @contextmanager
    def enter(self, owner: str, request_id: str) -> Iterator[asyncio.Future[None]]:
        """Keeps a call while it runs; yields what is done once the call is to end.

        Args:
            owner: whose call it is: nobody else can abort it.
        """
        aborted = asyncio.get_running_loop().create_future()
        same = self._calls.setdefault((owner, request_id), [])
        same.append(aborted)
        try:
            yield aborted
        finally:
            same.remove(aborted)
            if not same:
                self._calls.pop((owner, request_id), None)

    def abort(self, owner: str, request_id: str) -> None:
        """Ends the calls of an owner that have a name; there may be none."""
        for aborted in self._calls.get((owner, request_id), []):
            if not aborted.done():
                aborted.set_result(None)
