"""The turns in which waiting sequences get free rows.

The next row goes to the owner who holds the fewest rows, among his calls to the one that holds the
fewest, and then to the sequence that waits longest. So a call of many sequences takes the rows that
nobody else waits for, and a search that needs several rows at once gets them as soon as they are
free: who holds nothing and waits longest is never overtaken.

This module knows nothing of what a row holds.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count

from foredraft_engine.errors import LateStartError
from foredraft_engine.scheduling.caller import Caller

# A call's further sequences leave this share of the rows to calls that hold none: somebody who asks
# for one sequence need not wait until one of two hundred has ended.
_KEPT_SHARE = 8


@dataclass(slots=True, eq=False)
class _Waiter:
    rows: int
    caller: Caller
    arrival: int
    turn: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class RowTurns:
    """Counts free rows and gives them out by turns."""

    def __init__(self, rows: int) -> None:
        self._free, self._kept = rows, rows // _KEPT_SHARE
        # The sequences of each call in the order of their arrival. A turn looks at the first of
        # each call only: there may be thousands behind them.
        self._waiting: dict[Caller, deque[_Waiter]] = {}
        self._arrivals = count()
        self._held: Counter[Caller | str] = Counter()  # rows, by call and by owner

    @property
    def waiting(self) -> int:
        """The number of sequences that wait."""
        return sum(map(len, self._waiting.values()))

    async def take(self, rows: int, caller: Caller) -> None:
        """Takes rows, all at once, and waits for the turn to do so.

        Raises:
            LateStartError: the turn came when the caller had too little time left.
        """
        waiter = _Waiter(rows, caller, next(self._arrivals))
        self._waiting.setdefault(caller, deque()).append(waiter)
        self._give()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting.get(caller, ()):
                self._remove(waiter)
                self._give()
            elif not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self.give_back(rows, caller)  # the turn came but cannot be used: it is passed on
            raise

    def give_back(self, rows: int, caller: Caller) -> None:
        """Takes rows back and gives the next turns."""
        self._free += rows
        for holder in (caller, caller.owner):
            self._held[holder] -= rows
            if not self._held[holder]:
                del self._held[holder]
        self._give()

    def _give(self) -> None:
        while (waiter := self._next()) is not None:
            self._remove(waiter)
            if waiter.turn.done():  # it was cancelled, and its task has yet to learn of it
                continue
            if waiter.caller.is_late():
                waiter.turn.set_exception(LateStartError("its turn came too late to be of use"))
                continue
            self._free -= waiter.rows
            for holder in (waiter.caller, waiter.caller.owner):
                self._held[holder] += waiter.rows
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """Returns the waiter whose turn it is, None if it has to wait for more rows."""
        if not self._free:
            return None
        firsts = (waiting[0] for waiting in self._waiting.values())
        first = min(filter(self._leaves_enough, firsts), key=self._order, default=None)
        return first if first is not None and first.rows <= self._free else None

    def _remove(self, waiter: _Waiter) -> None:
        waiting = self._waiting[waiter.caller]
        waiting.remove(waiter)
        if not waiting:
            del self._waiting[waiter.caller]

    def _order(self, waiter: _Waiter) -> tuple[int, int, int]:
        return self._held[waiter.caller.owner], self._held[waiter.caller], waiter.arrival

    def _leaves_enough(self, waiter: _Waiter) -> bool:
        """Whether the rows may be this waiter's without touching what is kept for others."""
        return not self._held[waiter.caller] or self._free - waiter.rows >= self._kept
