"""Where a call goes, and whether it is tried again. Knows nothing of what is called."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

DEFAULT_TIMEOUT_S = 600.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this a peer that hangs is noticed after a minute, whatever the two above say.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", 64 << 20),
]


class Route:
    """One stub for each address; each call begins with the next one, each retry goes on to the next."""

    def __init__(self, stubs: Sequence[Any], max_retries: int) -> None:
        self._stubs, self._max_retries = stubs, max_retries
        self._turn = itertools.count()

    def attempts(self) -> Iterator[tuple[Any, float | None]]:
        """Stubs to try in order, each with the pause in seconds before the next try; None at the last."""
        first = next(self._turn)
        for attempt in range(self._max_retries + 1):
            pause = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
            yield self._stubs[(first + attempt) % len(self._stubs)], pause if attempt < self._max_retries else None


def may_retry(error: Any, began: bool) -> bool:
    """Only what did not begin: a generation that was lost in the middle is not blindly repeated."""
    return not began and error.code() is grpc.StatusCode.UNAVAILABLE


def addresses(address: str | Sequence[str]) -> list[str]:
    """One or several addresses as a list."""
    return [address] if isinstance(address, str) else list(address)
