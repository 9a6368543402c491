"""Who holds which row. A free row remembers its tokens, and serves again whoever begins with them.

Knows nothing of tensors: a row's contents are rolled back by feeding other tokens at an earlier
position, so that bookkeeping is all there is to do here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from decoding.quantizers import CacheSpec


@dataclass(slots=True)
class Row:
    """A row on loan. `cached` are the tokens whose keys and values it holds, in order."""

    index: int
    cached: list[int] = field(default_factory=list)
    cache: CacheSpec | None = None
    """How it is quantized, if it is."""

    def truncate(self, length: int) -> None:
        """Forgets everything from position `length` on."""
        del self.cached[length:]


@dataclass(slots=True)
class _Free:
    index: int
    tokens: list[int] = field(default_factory=list)
    owner: str = ""
    cache: CacheSpec | None = None


class RowPool:
    """All rows of an engine, lent one by one; whoever finds none waits in line."""

    def __init__(self, count: int) -> None:
        # Longest idle first. Rows that were never used have no tokens and match nothing.
        self._free = [_Free(i) for i in range(count)]
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.count = count
        self._promised = 0  # free rows whose next holder has been woken, and has not taken them yet

    @property
    def in_use(self) -> int:
        """Rows on loan."""
        return self.count - len(self._free)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a row."""
        return len(self._waiting)

    @asynccontextmanager
    async def lend(self, tokens: Sequence[int], owner: str, cache: CacheSpec | None = None) -> AsyncIterator[Row]:
        """Lends a row for a sequence that begins with `tokens`; takes it back at every exit.

        The row may already hold a part of the tokens (never all: the last one is always to be fed),
        if `owner` used it before; nobody is served from another owner's row. cache: how it is to be quantized, if it
        is; what it holds in another way is of no use.
        """
        await self._turn()
        row = self._take(tokens, owner, cache)
        try:
            yield row
        finally:
            self._free.append(_Free(row.index, row.cached, owner, row.cache))
            self._wake()

    async def _turn(self) -> None:
        if len(self._free) > self._promised and not self._waiting:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
            self._promised -= 1
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._promised -= 1
                self._wake()  # the turn was given and cannot be used: pass it on
            else:
                self._waiting.remove(turn)
            raise

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._promised += 1
                turn.set_result(None)
                return

    def _take(self, tokens: Sequence[int], owner: str, cache: CacheSpec | None) -> Row:
        def reuse(free: _Free) -> int:
            if free.owner != owner or free.cache != cache:
                return 0
            common = min(_common(free.tokens, tokens), len(tokens) - 1)
            return common if cache is None or cache.resumes(len(free.tokens), common) else 0

        best = max(self._free, key=lambda free: (reuse(free), not free.tokens))
        self._free.remove(best)
        return Row(best.index, list(tokens[: reuse(best)]), cache)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
