"""The sizes of passes that share one recording, and numbers padded to them.

Padding changes no text. A token that is only there to fill a pass is the last one again: it writes
what that one writes, to the same place. A query without a token sees the first place of its row,
and nobody reads what comes of it.

This module knows nothing of devices, or of how a pass is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from foredraft_engine.feed import Feed
from foredraft_engine.transfer import HostArray

# The new tokens of each row: plain decoding, rounds, and trees.
_TOKENS = (1, 2, 4, 6, 8, 12, 16, 24, 32)
# A pass over more tokens spends its time in arithmetic.
_MOST_PACKED = 256
# Half of the places at most are read in vain, but of short texts, which take no time.
_LEAST_END = 128
_LEAST_MORE = 16


@dataclass(frozen=True, slots=True)
class Bucket:
    """The sizes of a pass. All contents of passes of one bucket are numbers on the device."""

    first_row: int
    rows: int
    """The rows that attention reads, those in between that are not fed included."""
    tokens: int
    """The new tokens of each row."""
    packed: int
    """The new tokens of all rows."""
    end: int
    """One past the last place that is read in any row."""
    more: int
    """The places that tokens of trees see too, over all tokens."""

    @staticmethod
    def of(feeds: Sequence[Feed], rows: int, capacity: int) -> "Bucket | None":
        """Returns the bucket of a pass; None if it is recorded by none.

        Args:
            feeds: in the order of their rows.
            rows: the number of rows that there are.
            capacity: the number of places in a row.
        """
        longest, packed = max(len(f.ids) for f in feeds), sum(len(f.ids) for f in feeds)
        if longest > _TOKENS[-1] or packed > _MOST_PACKED or any(f.cache for f in feeds):
            return None
        last, end = feeds[-1].row, max(f.start + len(f.ids) for f in feeds)
        trees = [f.tree.seen for f in feeds if f.tree]
        more = sum(len(seen) + 1 for tree in trees for seen in tree)
        return Bucket(
            first_row=last if len(feeds) == 1 else 0,
            rows=1 if len(feeds) == 1 else min(_power_of_two(last + 1), rows),
            tokens=next(n for n in _TOKENS if n >= longest),
            packed=_step_up(packed, 1),
            end=min(_step_up(end, _LEAST_END), capacity),
            more=_step_up(more, _LEAST_MORE) if more else 0,
        )

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """The shapes of a layout's numbers, in their order."""
        of_token, of_query = (self.packed,), (self.rows, self.tokens)
        queries = (self.rows * self.tokens,)
        return (*(of_token,) * 7, queries, of_query, of_query, (4, self.more))

    @property
    def ends(self) -> Sequence[int]:
        """Where each of these numbers ends among all of them."""
        return list(accumulate(int(np.prod(shape)) for shape in self.shapes))

    def joined(self, arrays: Sequence[HostArray]) -> NDArray[np.int64]:
        """Returns the numbers of a layout, padded to the sizes of this bucket, int64 [n]."""
        padded = [_padded(a, shape) for a, shape in zip(arrays, self.shapes, strict=True)]
        return np.concatenate([one.reshape(-1) for one in padded])


def _padded(array: HostArray, shape: tuple[int, ...]) -> HostArray:
    """Returns an array whose last dimension is as long as is wanted, by its last entry."""
    short = shape[-1] - array.shape[-1]
    if not array.shape[-1]:  # ids that the host has not read
        return np.zeros(shape, dtype=np.int64)
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, short)], mode="edge")


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _step_up(number: int, least: int) -> int:
    """Returns the next one of the powers of two and of the numbers halfway between them."""
    above = max(_power_of_two(number), least)
    between = above * 3 // 4
    return between if number <= between and between >= least else above
