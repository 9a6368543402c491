"""The way from the bytes of a request to its message: small ones at once, large ones in a thread.

A large message is parsed in a pool of its own, within a bound of bytes, so that it holds up neither
the event loop nor the memory of others. This module knows nothing of what messages mean.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from google.protobuf.message import Message

from foredraft_serving.freed_memory import FreedMemory
from foredraft_serving.overload import OverloadError
from foredraft_serving.parsing import has_few_parts, parser
from foredraft_serving.worker_pool import WorkerPool

# What is parsed on the event loop takes less than a millisecond.
_SMALL_BYTES, _FEW_PARTS = 32 << 10, 256
_TINY_BYTES = 2 * _FEW_PARTS  # a part has at least two
_LARGE_BYTES = 1 << 20  # what is worth to be given back to the system afterwards
_THREADS, _MAX_WAITING = 1, 1024

_RECEIVED_BYTES: ContextVar[int] = ContextVar("received_bytes", default=0)


def received_bytes() -> int:
    """Returns the size of the request of the call that is being handled."""
    return _RECEIVED_BYTES.get()


class Intake:
    """Reads requests for all handlers of a server."""

    def __init__(
        self, max_bytes: int, on_refused: Callable[[str], None] = lambda reason: None
    ) -> None:
        """
        Args:
            max_bytes: the bytes of large messages that wait for the thread or are in it.
            on_refused: is called with the reason of every refusal.
        """
        self._max_bytes, self._on_refused = max_bytes, on_refused
        self._held_bytes = 0
        self._freed = FreedMemory()
        self._pool = WorkerPool("parsing", _THREADS, _MAX_WAITING, on_refused)

    async def read(self, kind: type[Message], raw: bytes) -> Message:
        """Returns the message of a kind.

        Raises:
            InvalidFieldError: the bytes are no such message, or one that is too large.
            OverloadError: too many large messages wait to be read.
        """
        _RECEIVED_BYTES.set(len(raw))
        parse = parser(kind)
        if _is_small(kind, raw):
            return parse(raw)
        if len(raw) >= _LARGE_BYTES:
            self._freed.grew()
        with self._place(len(raw)):
            return await self._pool.run(parse, raw)

    def close(self) -> None:
        """Ends the thread."""
        self._freed.close()
        self._pool.close()

    @contextmanager
    def _place(self, size_bytes: int) -> Iterator[None]:
        # A message that is too large by itself is refused by parsing, which names its field.
        if self._held_bytes and self._held_bytes + size_bytes > self._max_bytes:
            self._on_refused("bytes")
            raise OverloadError(
                "bytes", f"overloaded: requests of {self._held_bytes} bytes wait to be read"
            )
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes


def _is_small(kind: type[Message], raw: bytes) -> bool:
    if len(raw) <= _TINY_BYTES:
        return True
    return len(raw) <= _SMALL_BYTES and has_few_parts(raw, kind.DESCRIPTOR, _FEW_PARTS)
