"""The caller for whom a coroutine waits: rows and steps are shared by turns between callers.

This module knows nothing of what is waited for.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """One call. Two calls are never equal, even if they are of one owner."""

    owner: str = ""
    """Names the credential of the call; empty if there is none."""
    is_late: Callable[[], bool] = lambda: False
    """Whether too little time is left to begin a sequence now."""


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def act_for(caller: Caller) -> None:
    """Lets this task, and the tasks that it starts, wait on behalf of a caller."""
    _CALLER.set(caller)


def acting_for() -> Caller | None:
    """Returns the caller on whose behalf this task waits, None if nobody said so."""
    return _CALLER.get()
