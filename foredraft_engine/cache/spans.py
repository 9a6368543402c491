"""Which rows of a pass one attention call serves, and what their queries see, on the host.

Rows with few new tokens share a call, however ragged they are: the shorter ones are padded, and
rows in between that are not fed take part without effect. So the number of calls does not depend on
the number of rows. A row with many new tokens, such as a chunk of a prompt, has a call of its own,
and so has a quantized row.

This module knows nothing of devices, or of keys and values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from foredraft_engine.cache.bucket import Bucket
from foredraft_engine.cache.quantized_row import QuantizedRow
from foredraft_engine.feed import Feed
from foredraft_engine.transfer import HostArray

# Rows with up to so many new tokens are padded to one another: a round, and one with alternatives.
_WIDTHS = (8, 32)
# Padding may at most double what is read, but for this many places, which take no time.
_FREE_PLACES = 1024


@dataclass(frozen=True, slots=True)
class Member:
    """A row that is fed."""

    feed: Feed
    offset: int
    """The index of its first token in the packed batch."""

    @property
    def end(self) -> int:
        """One past its last place in use once the new tokens are written."""
        return self.feed.start + len(self.feed.ids)


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Neighbouring rows that one attention call serves."""

    members: tuple[Member, ...]
    """The rows that are fed, in their order."""
    quantized: QuantizedRow | None = None
    """The one quantized row, if it is that."""
    bucket: Bucket | None = None
    """The sizes to which it is padded, if it is; they are no smaller than its own."""

    @property
    def alone(self) -> Feed | None:
        """The one feed, if its places are numbers of the host."""
        return self.members[0].feed if self.rows == 1 and not self.bucket else None

    @property
    def first_row(self) -> int:
        """The first of the rows."""
        return self.bucket.first_row if self.bucket else self.members[0].feed.row

    @property
    def rows(self) -> int:
        """The number of rows, those in between that are not fed included."""
        if self.bucket:
            return self.bucket.rows
        return self.members[-1].feed.row - self.first_row + 1

    @property
    def tokens(self) -> int:
        """The new tokens of each row, to which the shorter ones are padded."""
        if self.bucket:
            return self.bucket.tokens
        return max(len(member.feed.ids) for member in self.members)

    @property
    def end(self) -> int:
        """One past the last place that any row has in use."""
        if self.bucket:
            return self.bucket.end
        return max(member.end for member in self.members)

    @property
    def is_padded(self) -> bool:
        """Whether its queries are not simply neighbours in the packed batch."""
        if self.bucket:
            return True
        offset, tokens = self.members[0].offset, self.tokens
        return self.rows != len(self.members) or any(
            len(member.feed.ids) != tokens or member.offset != offset + i * tokens
            for i, member in enumerate(self.members)
        )

    def takes(self, member: Member) -> bool:
        """Returns whether a row joins without making the call read more than twice as much."""
        joined = RowSpan((*self.members, member))
        needed = sum(one.end for one in joined.members)
        read = joined.rows * joined.end
        return self.quantized is None and read <= 2 * needed + _FREE_PLACES


@dataclass(frozen=True, slots=True)
class Sight:
    """What the queries of a span see: of each, the places below a limit, and some more."""

    places: HostArray
    """The token of each query in the packed batch, int64 [rows * tokens]."""
    limits: HostArray
    """int64 [rows, tokens]; padding sees the first place."""
    positions: HostArray
    """The position of each query in its own text, int64 [rows, tokens]."""
    more: HostArray
    """The places that tokens of trees see too, int64 [4, entries]: row, token, place and
    the position of what is at the place.
    """

    @staticmethod
    def of(span: RowSpan) -> "Sight":
        """Returns what the queries of a span see."""
        shape = (span.rows, span.tokens)
        places = np.full(shape, span.members[0].offset, dtype=np.int64)
        limits, positions = np.ones(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        more: list[tuple[int, int, int, int]] = []
        for member in span.members:
            feed, row = member.feed, member.feed.row - span.first_row
            n = len(feed.ids)
            places[row] = member.offset + np.minimum(np.arange(span.tokens), n - 1)
            if feed.tree is None:
                positions[row, :n] = np.arange(feed.start, member.end)
                limits[row, :n] = positions[row, :n] + 1
                continue
            trunk = feed.tree.trunk
            positions[row, :n], limits[row, :n] = feed.tree.positions, trunk
            for i, seen in enumerate(feed.tree.seen):
                more += [(row, i, place, trunk + depth) for depth, place in enumerate(seen)]
                more.append((row, i, feed.start + i, feed.tree.positions[i]))
        entries = np.array(more, dtype=np.int64).reshape(-1, 4).T
        return Sight(places.reshape(-1), limits, positions, entries)

    def sees_all(self, end: int, window: int | None) -> bool:
        """Returns whether every query sees all places before `end`."""
        within = window is None or end <= window
        return within and not self.more.size and bool(self.limits.min() >= end)


def spans_of(
    feeds: Sequence[Feed], quantized: Mapping[int, QuantizedRow], bucket: Bucket | None = None
) -> list[RowSpan]:
    """Returns the spans of a pass.

    Args:
        feeds: in the order of their rows.
        quantized: the quantized rows among those that are fed.
        bucket: the sizes of the one span that the pass has, if it is padded to them.
    """
    if bucket:
        offsets = accumulate((len(feed.ids) for feed in feeds), initial=0)
        members = tuple(Member(feed, offset) for feed, offset in zip(feeds, offsets, strict=False))
        return [RowSpan(members, bucket=bucket)]
    spans: list[RowSpan] = []
    latest: dict[int, int] = {}  # the last span of each width
    offset = 0
    for feed in feeds:
        member, row = Member(feed, offset), quantized.get(feed.row)
        offset += len(feed.ids)
        width = next((w for w in _WIDTHS if len(feed.ids) <= w), None) if row is None else None
        at = latest.get(width) if width is not None else None
        if at is not None and spans[at].takes(member):
            spans[at] = RowSpan((*spans[at].members, member))
            continue
        if width is not None:
            latest[width] = len(spans)
        spans.append(RowSpan((member,), row))
    return spans
