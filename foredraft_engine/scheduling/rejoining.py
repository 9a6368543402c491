"""Which sequences the next step waits for: those that were in the last one and soon come back.

A step over sixteen rows takes little longer than one over eight. Sequences that miss a step by a
millisecond, while their tokens are sent, would go on in two groups that take turns, each at half
the speed. So a step waits a little for the rows of the last one. A row is waited for only if it
came back in time when it came back last: one whose reader or draft is slow delays nobody.

This module knows nothing of jobs or threads: its owner locks it.
"""

from collections.abc import Callable, Iterable

# The share of the last step's time for which the next one waits, and the longest wait.
_PATIENCE, _LONGEST_S = 0.25, 0.02


class Rejoining:
    """The rows that were in earlier steps and have not come back."""

    def __init__(self, is_lent: Callable[[int], bool]) -> None:
        """
        Args:
            is_lent: whether a sequence holds a row; no other row comes back.
        """
        self._is_lent = is_lent
        self._left_at: dict[int, float] = {}  # rows that are away, and since when
        self._quick: set[int] = set()  # rows that came back in time when they came back last
        self._patience_s = 0.0

    def left(self, rows: Iterable[int], step_s: float, now: float) -> None:
        """Records that the results of these rows were handed out after a step of `step_s`."""
        self._patience_s = min(_PATIENCE * step_s, _LONGEST_S)
        self._left_at |= dict.fromkeys(rows, now)

    def came(self, rows: Iterable[int], now: float) -> None:
        """Records that these rows have a job again."""
        for row in rows:
            left_at = self._left_at.pop(row, None)
            if left_at is None:
                continue
            if now - left_at <= self._patience_s:
                self._quick.add(row)
            else:
                self._quick.discard(row)

    def wait_s(self, now: float) -> float:
        """Returns for how long the next step should wait at most; 0 if nobody is expected."""
        last = max(
            (at for row, at in self._left_at.items() if row in self._quick and self._is_lent(row)),
            default=None,
        )
        return 0.0 if last is None else max(0.0, last + self._patience_s - now)
