"""Who holds which row. A row remembers its tokens, and serves again whoever begins with them, free
or not.

Knows nothing of tensors: a row's contents are rolled back by feeding other tokens at an earlier
position, so that bookkeeping is all there is to do here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from foredraft_engine.cache_spec import CacheSpec

# Tokens from which on it is better to copy than to feed: every text may begin with the same one.
_WORTH = 2
_PIECE = 256


@dataclass(slots=True, eq=False)
class Row:
    """A row on loan. `cached` are the tokens whose keys and values it holds, in order."""

    index: int
    cached: list[int] = field(default_factory=list)
    owner: str = ""
    cache: CacheSpec | None = None
    """How it is quantized, if it is."""
    promised: Sequence[int] = ()
    """What it will hold once it is prefilled; empty when that is over."""
    found: int = 0
    """Tokens that it was not fed, but held from before, or copied."""
    _turn: int = (
        0  # rows wait for those whose prefilling began earlier, so that none wait for one another
    )
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    def truncate(self, length: int) -> None:
        """Forgets everything from position `length` on."""
        del self.cached[length:]

    def adopt(self, copied: list[int]) -> None:
        """Another row's tokens were copied behind those that it has in common with them."""
        self.found += len(copied) - len(self.cached)
        self.cached = copied

    def shares(self, tokens: Sequence[int]) -> int:
        """How many tokens of a sequence it could lend to another row:

        never the last, which is to be fed.
        """
        return _reusable(self.cache, self.cached, tokens)

    async def progress(self) -> None:
        """Waits until it holds what it promised, or gives it up."""
        while self.promised:
            await self._grown.wait()

    def prefilled(self) -> None:
        """It holds what it promised, or will not."""
        self.promised = ()
        self._grown.set()


@dataclass(slots=True)
class _Free:
    index: int
    tokens: list[int] = field(default_factory=list)
    owner: str = ""
    cache: CacheSpec | None = None


class RowPool:
    """All rows of an engine; whoever finds too few waits in line."""

    def __init__(self, count: int) -> None:
        # Longest idle first. Rows that were never used have no tokens and match nothing.
        self._free = [_Free(i) for i in range(count)]
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()  # and rows wanted
        self.count = count
        self._lent: list[Row] = []
        self._turns = 0
        self._promised = 0  # free rows whose next holder has been woken, and has not taken them yet

    @property
    def in_use(self) -> int:
        """Rows on loan."""
        return self.count - len(self._free)

    @property
    def tokens(self) -> int:
        """What rows on loan hold."""
        return sum(len(row.cached) for row in list(self._lent))

    @property
    def waiting(self) -> int:
        """Sequences that wait for a row."""
        return len(self._waiting)

    @asynccontextmanager
    async def lend(
        self, tokens: Sequence[int], owner: str, cache: CacheSpec | None = None
    ) -> AsyncIterator[Row]:
        """Lends a row for a sequence that begins with `tokens`; takes it back at every exit.

        The row may already hold a part of the tokens (never all: the last one is always to be fed),
        if `owner` used it before; nobody is served from another owner's row. cache: how it is to be
        quantized, if it is; what it holds in another way is of no use.
        """
        async with self.lend_several([tokens], owner, cache) as (row,):
            yield row

    @asynccontextmanager
    async def lend_several(
        self, sequences: Sequence[Sequence[int]], owner: str, cache: CacheSpec | None = None
    ) -> AsyncIterator[list[Row]]:
        """Lends a row for each of some sequences, at the same time: who holds some would keep them
        from others.

        Raises:
            ValueError: there are not so many.
        """
        if len(sequences) > self.count:
            raise ValueError(f"{len(sequences)} rows are wanted, there are {self.count}")
        await self._turn(len(sequences))
        rows = [self._take(tokens, owner, cache) for tokens in sequences]
        self._lent += rows
        try:
            yield rows
        finally:
            for row in rows:
                self._lent.remove(row)
                row.prefilled()
                self._free.append(_Free(row.index, row.cached, owner, cache))
            self._wake()

    def prefilling(self, row: Row, tokens: Sequence[int]) -> None:
        """A row begins to be filled with all tokens but the last."""
        self._turns += 1
        row._turn, row.promised, row._grown = self._turns, tokens[:-1], asyncio.Event()

    def source_for(self, row: Row, tokens: Sequence[int]) -> Row | None:
        """The row of the same owner that holds, or will hold, most of a sequence; None if this one
        has as much.

        What has yet to be fed counts only where that began earlier.
        """

        best, most = None, len(row.cached) + _WORTH - 1
        if len(tokens) - 1 <= most:
            return None
        for other in self._lent:
            if other is row or (other.owner, other.cache) != (row.owner, row.cache):
                continue
            promised = other.promised if other._turn < row._turn else ()
            lends = max(other.shares(tokens), min(common_length(promised, tokens), len(tokens) - 1))
            if lends > most:
                best, most = other, lends
        return best

    async def _turn(self, rows: int) -> None:
        if len(self._free) - self._promised >= rows and not self._waiting:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, rows))
        try:
            await turn
            self._promised -= rows
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._promised -= rows  # the turn was given and cannot be used: pass it on
            elif (turn, rows) in self._waiting:
                self._waiting.remove((turn, rows))
            self._wake()
            raise

    def _wake(self) -> None:
        """Gives turns in order, as long as there are rows for the first in line."""
        while self._waiting:
            turn, rows = self._waiting[0]
            if not turn.done():
                if len(self._free) - self._promised < rows:
                    return
                self._promised += rows
                turn.set_result(None)
            self._waiting.popleft()

    def _take(self, tokens: Sequence[int], owner: str, cache: CacheSpec | None) -> Row:
        def reuse(free: _Free) -> int:
            same = free.owner == owner and free.cache == cache
            return _reusable(cache, free.tokens, tokens) if same else 0

        best = max(self._free, key=lambda free: (reuse(free), not free.tokens))
        self._free.remove(best)
        held = list(tokens[: reuse(best)])
        return Row(best.index, held, owner, cache, found=len(held))


def _reusable(cache: CacheSpec | None, held: Sequence[int], tokens: Sequence[int]) -> int:
    """How much of a sequence a row with these tokens is good for:

    never the last one, which is to be fed.
    """
    length = max(0, min(common_length(held, tokens), len(tokens) - 1))
    return length if cache is None or cache.resumes(len(held), length) else 0


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    length, most = 0, min(len(a), len(b))
    # Piece by piece: long prompts are compared whenever a row is lent.
    while length < most and list(a[length : length + _PIECE]) == list(b[length : length + _PIECE]):
        length += _PIECE
    for i in range(length, most):
        if a[i] != b[i]:
            return i
    return most
