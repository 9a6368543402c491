"""What tells the graphs of one layer from another, and the passes that stand for each.

A size of one is a number to a trace, any other a symbol. So there are up to four shapes of passes:
one row or several, with one new token each or more. This module knows nothing of layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foredraft_engine.cache.layout import Layout
from foredraft_engine.feed import Feed

# A pass over more tokens spends its time in arithmetic.
MOST_TOKENS = 64
# The place at which the texts of examples end, unlike any other of their sizes.
_END = 23


@dataclass(frozen=True, slots=True)
class PassShape:
    """The shape of a pass."""

    several_rows: bool
    several_tokens: bool
    """Whether some row has several new tokens."""

    @staticmethod
    def of(layout: Layout) -> "PassShape | None":
        """Returns the shape of a pass; None if no graph serves it."""
        span = layout.spans[0]
        if len(layout.spans) > 1 or span.quantized or len(layout.ids) > MOST_TOKENS:
            return None
        return PassShape(span.rows > 1, span.tokens > 1)

    def example(self, rows: int, taken: frozenset[int]) -> list[Feed]:
        """Returns the feeds of a pass, of which no two sizes are equal.

        Args:
            rows: the number of rows that there are, at least 2 if several are fed.
            taken: sizes that the number of tokens must not have.

        Raises:
            ValueError: there is none.
        """
        for longest in (5, 7, 11, 13) if self.several_tokens else (1,):
            lengths = {0: longest}
            if self.several_rows:
                # With two of three rows fed, the numbers of rows and tokens differ.
                lengths[min(rows, 3) - 1] = 2 if self.several_tokens else 1
            if sum(lengths.values()) not in taken:
                return [Feed(row, _END - n, range(1, n + 1)) for row, n in lengths.items()]
        raise ValueError("no number of tokens differs from all sizes of the layer")

    def samples(self, rows: int, end: int, groups: int) -> Sequence[Mapping[str, int]]:
        """Returns sizes of passes, from the smallest to the largest.

        Args:
            rows: the number of rows that there are.
            end: the last place that a pass may read.
            groups: query heads for each kv head.
        """
        return [
            {"n": n, "rows": r, "tokens": t, "folded": t * groups, "end": e}
            for r in ((2, 3, rows) if self.several_rows else (1,))
            for t in ((2, 3, MOST_TOKENS - 1) if self.several_tokens else (1,))
            for n in {t if r == 1 else t + 1, min(r * t, MOST_TOKENS)}
            for e in (2, 17, end)
            if r <= rows
        ]
