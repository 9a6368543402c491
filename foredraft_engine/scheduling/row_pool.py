"""The pool of rows: which sequence holds which row, and which tokens each row holds.

A row keeps its tokens when it is given back, and a later sequence of the same scope that begins
with them reuses it. A row on loan lends its tokens too: another row copies them.

This module knows nothing of tensors. A row rolls back by feeding other tokens at an earlier
position, so that keeping account of tokens is enough.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import BrokenLogitsError
from foredraft_engine.scheduling.caller import Caller, acting_for
from foredraft_engine.scheduling.row_turns import RowTurns

# The fewest tokens that are copied rather than fed: all texts may begin with the same token.
_FEWEST_COPIED = 2
_PIECE = 256  # tokens that are compared at once


@dataclass(slots=True, eq=False)
class Row:
    """A row on loan."""

    index: int
    cached: list[int] = field(default_factory=list)
    """The tokens whose keys and values the row holds, in order."""
    scope: str = ""
    cache: CacheSpec | None = None
    """How the row is quantized; None if it is not."""
    promised: Sequence[int] = ()
    """The tokens that the row will hold once it is prefilled; empty before and after."""
    reused: int = 0
    """The number of tokens that the row was not fed: it held them from before, or copied them."""
    # A row waits only for rows whose prefilling began earlier, so that no two wait for each other.
    _turn: int = 0
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def truncate(self, length: int) -> None:
        """Forgets the tokens from position `length` on."""
        del self.cached[length:]

    def adopt(self, copied: list[int]) -> None:
        """Takes over the tokens that were copied from another row, its own prefix included."""
        self.reused += len(copied) - len(self.cached)
        self.cached = copied

    def shares(self, tokens: Sequence[int]) -> int:
        """Returns how many tokens of a sequence the row could lend to another row.

        The last token never counts, because it has to be fed.
        """
        return _reusable(self.cache, self.cached, tokens)

    async def wait_until_prefilled(self) -> None:
        """Waits until the row is prefilled, or its prefilling is given up."""
        while self.promised:
            await self._filled.wait()

    def prefilled(self) -> None:
        """Ends the prefilling, whether it was completed or given up."""
        self.promised = ()
        self._filled.set()


@dataclass(slots=True)
class _FreeRow:
    index: int
    tokens: list[int] = field(default_factory=list)
    scope: str = ""
    cache: CacheSpec | None = None


class RowPool:
    """All rows of an engine. A sequence that finds too few free rows waits for its turn."""

    def __init__(self, count: int, on_lent: Callable[[int], None] = lambda row: None) -> None:
        """
        Args:
            count: the number of rows.
            on_lent: is called with the index of a row when it is lent.
        """
        self._on_lent = on_lent
        # The row that has been idle longest comes first.
        self._free = [_FreeRow(i) for i in range(count)]
        self._turns = RowTurns(count)
        self.count = count
        self._lent: list[Row] = []
        self._prefills = 0  # that have begun

    @property
    def in_use(self) -> int:
        """The number of rows on loan."""
        return self.count - len(self._free)

    def is_lent(self, index: int) -> bool:
        """Returns whether a row is on loan; any thread may ask."""
        return any(row.index == index for row in list(self._lent))

    @property
    def prompts_by_text(self) -> int:
        """The number of rows whose prompt is read for each one whose text is decoded.

        Any thread may ask.
        """
        lent = list(self._lent)
        reading = sum(bool(row.promised) for row in lent)
        return reading // max(1, sum(bool(row.cached) and not row.promised for row in lent))

    @property
    def tokens(self) -> int:
        """The number of tokens that rows on loan hold."""
        return sum(len(row.cached) for row in list(self._lent))

    @property
    def waiting(self) -> int:
        """The number of sequences that wait for a row."""
        return self._turns.waiting

    @asynccontextmanager
    async def lend(
        self, tokens: Sequence[int], scope: str, cache: CacheSpec | None = None
    ) -> AsyncIterator[Row]:
        """Lends a row for a sequence that begins with `tokens`, and takes it back at every exit.

        The row may already hold a part of the tokens, but never the last one, which always has to
        be fed. It holds none that another scope has used, and none that are quantized in another
        way.

        Args:
            tokens: the beginning of the sequence.
            scope: rows are reused among the sequences of one scope only.
            cache: how the row is quantized; None if it is not.
        """
        async with self.lend_several([tokens], scope, cache) as (row,):
            yield row

    @asynccontextmanager
    async def lend_several(
        self, sequences: Sequence[Sequence[int]], scope: str, cache: CacheSpec | None = None
    ) -> AsyncIterator[list[Row]]:
        """Lends a row for each of several sequences, as `lend` does.

        The rows are lent together: two callers that each hold a part of what they need would wait
        for each other.

        Raises:
            ValueError: the pool has fewer rows than there are sequences.
        """
        if len(sequences) > self.count:
            raise ValueError(
                f"sequences: there are {len(sequences)}, but the pool has only {self.count} rows; "
                "start with more rows or ask for fewer sequences"
            )
        caller = acting_for() or Caller(scope)
        await self._turns.take(len(sequences), caller)
        rows = [self._take(tokens, scope, cache) for tokens in sequences]
        self._lent += rows
        for row in rows:
            self._on_lent(row.index)
        try:
            yield rows
        except BrokenLogitsError:
            for row in rows:
                row.truncate(0)  # what broke them may be in the row, and nobody is to reuse it
            raise
        finally:
            for row in rows:
                self._lent.remove(row)
                row.prefilled()
                self._free.append(_FreeRow(row.index, row.cached, scope, cache))
            self._turns.give_back(len(rows), caller)

    def prefilling(self, row: Row, tokens: Sequence[int]) -> None:
        """Notes that a row is being filled with all tokens but the last."""
        self._prefills += 1
        row._turn, row.promised, row._filled = self._prefills, tokens[:-1], asyncio.Event()

    def source_for(self, row: Row, tokens: Sequence[int]) -> Row | None:
        """Returns the row to copy from: that of the same scope which holds most of a sequence.

        Tokens that a row has yet to be fed count if its prefilling began earlier. The result is
        None if no row holds enough more than this one.
        """
        best, most = None, len(row.cached) + _FEWEST_COPIED - 1
        if len(tokens) - 1 <= most:
            return None
        for other in self._lent:
            if other is row or (other.scope, other.cache) != (row.scope, row.cache):
                continue
            promised = other.promised if other._turn < row._turn else ()
            lends = max(other.shares(tokens), min(common_length(promised, tokens), len(tokens) - 1))
            if lends > most:
                best, most = other, lends
        return best

    def _take(self, tokens: Sequence[int], scope: str, cache: CacheSpec | None) -> Row:
        def reuse(free: _FreeRow) -> int:
            same = free.scope == scope and free.cache == cache
            return _reusable(cache, free.tokens, tokens) if same else 0

        best = max(self._free, key=lambda free: (reuse(free), not free.tokens))
        self._free.remove(best)
        held = list(tokens[: reuse(best)])
        return Row(best.index, held, scope, cache, reused=len(held))


def _reusable(cache: CacheSpec | None, held: Sequence[int], tokens: Sequence[int]) -> int:
    """Returns how many tokens of a sequence a row can reuse.

    The last token never counts, because it has to be fed.

    Args:
        cache: how the row is quantized.
        held: the tokens that the row holds.
        tokens: the sequence.
    """
    length = max(0, min(common_length(held, tokens), len(tokens) - 1))
    return length if cache is None or cache.resumes(len(held), length) else 0


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Returns the length of the common prefix."""
    length, most = 0, min(len(a), len(b))
    # Piece by piece, because long prompts are compared whenever a row is lent.
    while length < most and list(a[length : length + _PIECE]) == list(b[length : length + _PIECE]):
        length += _PIECE
    for i in range(length, most):
        if a[i] != b[i]:
            return i
    return most
