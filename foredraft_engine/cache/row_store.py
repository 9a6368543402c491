"""The memory of rows. On a CPU it is taken page by page when it is written, and can be given back.

A service has far more places than its texts fill, so what it needs should follow what rows hold.
`torch.zeros` writes every place, and huge pages take two megabytes for a single token.

This module knows nothing of layers, or of what rows hold.
"""

import math
import mmap
from contextlib import suppress

import torch
from torch import Tensor

# Windows has neither; there all memory is taken at once.
_BY_PAGES = hasattr(mmap, "MAP_ANONYMOUS") and hasattr(mmap, "MADV_DONTNEED")


class RowStore:
    """The keys or the values of all rows in one layer, of which no place is undefined.

    What no query sees still takes part in the multiplication, with a weight of zero. So places that
    were never written have to be numbers, and NaN has to go with the text that made it.
    """

    def __init__(self, rows: int, capacity: int, states: Tensor) -> None:
        """
        Args:
            states: the first keys or values of the layer, [1, kv heads, n, head size].
        """
        shape = (rows, states.shape[1], capacity, states.shape[3])
        self._pages: mmap.mmap | None = None
        if states.device.type == "cpu" and _BY_PAGES:
            self._pages = _pages(math.prod(shape) * states.itemsize)
            self.tensor = torch.frombuffer(self._pages, dtype=states.dtype).view(shape)
            """[rows, kv heads, capacity, head size]"""
        else:
            self.tensor = states.new_zeros(shape)

    @property
    def place_bytes(self) -> int:
        """The bytes of one place of one row."""
        _, heads, _, size = self.tensor.shape
        return heads * size * self.tensor.itemsize

    def clear(self, row: int, place: int, end: int) -> None:
        """Makes the places of a row from `place` to `end` zeros."""
        self.tensor[row, :, place:end].zero_()

    def give_back(self, row: int, place: int, end: int) -> None:
        """Clears places of a row, and gives back the memory of the whole pages among them."""
        if self._pages is None:
            self.clear(row, place, end)
            return
        of_row, of_head, of_place, _ = (n * self.tensor.itemsize for n in self.tensor.stride())
        for head in range(self.tensor.shape[1]):
            start = row * of_row + head * of_head
            first, last = start + place * of_place, start + end * of_place
            begin = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
            stop = last // mmap.PAGESIZE * mmap.PAGESIZE
            if begin >= stop:
                begin = stop = last
            else:
                self._pages.madvise(mmap.MADV_DONTNEED, begin, stop - begin)
            self._pages[first:begin], self._pages[stop:last] = (
                bytes(begin - first),
                bytes(last - stop),
            )


def _pages(size_bytes: int) -> mmap.mmap:
    """Returns zeros whose pages are taken when they are first written."""
    pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # of a kernel that has no huge pages
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages
