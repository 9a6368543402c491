"""Premises about time, which a busy machine breaks: a test that has one begins again.

What a service may never do is asserted, once. What it does in time, on a machine that lets it, is a
premise: one attempt of several has to meet it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

_ATTEMPTS = 10

Test = TypeVar("Test", bound=Callable[..., Any])


class HeldUpError(Exception):
    """The machine was too busy for this attempt; it says nothing of what is tested."""


def in_time(premise: bool, otherwise: object = "") -> None:
    """Ends an attempt, and says what was seen, unless a premise holds.

    Raises:
        HeldUpError: it does not.
    """
    if not premise:
        raise HeldUpError(otherwise)


def begins_again(test: Test) -> Test:
    """Makes a test begin again while it is held up; the last of ten attempts fails as it is."""

    @functools.wraps(test)
    def attempts(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_ATTEMPTS - 1):
            try:
                return test(*args, **kwargs)
            except HeldUpError:
                continue
        return test(*args, **kwargs)

    @functools.wraps(test)
    async def async_attempts(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await test(*args, **kwargs)
            except HeldUpError:
                continue
        return await test(*args, **kwargs)

    return async_attempts if inspect.iscoroutinefunction(test) else attempts  # type: ignore[return-value]
