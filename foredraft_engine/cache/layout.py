"""The layout of a forward pass over rows: where its tokens are written, and what each attends to.

All numbers of a layout are planned on the host first, and move to the device in one copy, before
the pass begins.

This module knows nothing of keys and values.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.cache.bucket import Bucket
from foredraft_engine.cache.quantized_row import QuantizedRow
from foredraft_engine.cache.spans import RowSpan, Sight, spans_of
from foredraft_engine.cache.visibility import Visibility
from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import Unread
from foredraft_engine.transfer import HostArray


@dataclass(frozen=True, slots=True)
class SpanTensors:
    """What a span's queries see, on the device. See `Sight` for each."""

    places: Tensor
    limits: Tensor
    positions: Tensor
    more: Tensor


@dataclass(frozen=True, slots=True)
class MaskKind:
    """What tells the masks of a span from one another."""

    window: int | None
    """The length of the attention window; None if there is none."""
    groups: int
    """Query heads for each kv head."""
    dtype: torch.dtype


class LayoutPlan:
    """A layout on the host."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        scored: Sequence[int],
        quantized: Mapping[int, QuantizedRow],
        bucket: Bucket | None = None,
    ) -> None:
        """
        Args:
            feeds: in the order of their rows.
            scored: for each feed, the number of its last tokens that get logits.
            quantized: the quantized rows among those that are fed.
            bucket: the sizes to which all is padded, if it is.
        """
        self.tokens, self.scored = sum(len(feed.ids) for feed in feeds), sum(scored)
        """The numbers of tokens that are fed and that get logits, without those that pad."""
        self.bucket = bucket
        self.spans = spans_of(feeds, quantized, bucket)
        self.sights = [Sight.of(span) for span in self.spans]
        self.all_dense = not quantized
        tokens, order = _tokens(feeds, quantized), _order(self.spans)
        if bucket and order is None:
            order = np.arange(self.tokens, dtype=np.int64)
        self.is_ordered = order is None
        sights = [a for s in self.sights for a in (s.places, s.limits, s.positions, s.more)]
        arrays = [
            *tokens,
            *([] if order is None else [order]),
            _scored(feeds, scored),
            *sights,
        ]
        self.arrays = [bucket.joined(arrays)] if bucket else arrays
        """What a layout consists of; one array if it is padded."""

    def split(self, numbers: Tensor) -> list[Tensor]:
        """Returns views of the one array of a padded plan, as a layout takes them."""
        assert self.bucket is not None
        ends, shapes = self.bucket.ends, self.bucket.shapes
        parts = zip([0, *ends[:-1]], ends, shapes, strict=True)
        return [numbers[start:end].view(shape) for start, end, shape in parts]


class Layout:
    """Where the tokens of one packed forward pass are written, and what they attend to."""

    def __init__(self, plan: LayoutPlan, moved: Sequence[Tensor], ids: Tensor | None) -> None:
        """
        Args:
            moved: the arrays of the plan on the device.
            ids: the packed ids if the host has not read them, int64 [n].
        """
        tensors = iter(moved)
        self.spans, self._sights = plan.spans, plan.sights
        self.layer = 0  # the layer that was written last, whose attention comes next
        self.ids, self.rows, self.places, self.positions, self.dense = (
            next(tensors) for _ in range(5)
        )
        """The packed tokens, [n] each; of unquantized rows the indices of the tokens."""
        self.ids = self.ids if ids is None else ids
        self.device = self.ids.device
        self.order = None if plan.is_ordered else next(tensors)
        """The place of each token in the attention's output, span after span; None if in order."""
        self.scored = next(tensors)
        """The indices of the tokens that get logits, int64 [sum(scored)]."""
        self.seen = [SpanTensors(*(next(tensors) for _ in range(4))) for _ in self.spans]
        self.all_dense, self.any_dense = plan.all_dense, len(self.dense) > 0
        self._masks: dict[tuple[int, MaskKind], Tensor | None] = {}
        self.asked: dict[int, MaskKind] = {}
        """The kind of mask that each layer asked for last."""
        self._visibilities: dict[tuple[int, int | None], Visibility] = {}

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes this the layout of the forward pass that runs inside.

        It is no argument of the model, because some models do not hand unknown arguments down to
        their attention.
        """
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def mask(
        self, index: int, window: int | None, groups: int, dtype: torch.dtype
    ) -> Tensor | None:
        """Returns the additive mask of a span; None if nothing is hidden.

        Args:
            index: the span.
            window: the length of the attention window; None if there is none.
            groups: query heads for each kv head.

        Returns:
            [rows, 1, groups * tokens, end].
        """
        kind = MaskKind(window, groups, dtype)
        self.asked[self.layer] = kind
        if (index, kind) not in self._masks:
            span = self.spans[index]
            shown = not span.bucket and self._sights[index].sees_all(span.end, window)
            hidden = None if shown else self._hidden(index, window)
            self._masks[index, kind] = None if hidden is None else _additive(hidden, kind)
        return self._masks[index, kind]

    def whole_mask(self, kind: MaskKind) -> Tensor:
        """Returns the additive mask of the first span, [rows, 1, groups * tokens, end].

        It is there even if nothing is hidden, and `end` is at least 2.
        """
        return _additive(self._hidden(0, kind.window, 2), kind)

    def visibility(self, index: int, window: int | None) -> Visibility:
        """Returns what the queries read in the span of a quantized row."""
        key = (index, window)
        if key not in self._visibilities:
            span = self.spans[index]
            assert span.quantized is not None
            positions = self._sights[index].positions[0].tolist()
            hidden = self._hidden(index, window)[0]
            self._visibilities[key] = Visibility.of(span.quantized.spec, hidden, positions, window)
        return self._visibilities[key]

    def _hidden(self, index: int, window: int | None, least_end: int = 0) -> Tensor:
        """Returns the places that each new token does not attend to, bool [rows, tokens, end]."""
        seen = self.seen[index]
        end = max(self.spans[index].end, least_end)
        places = torch.arange(end, device=self.device)  # [end]
        hidden = places >= seen.limits[:, :, None]
        first = None if window is None else seen.positions - window + 1  # [rows, tokens]
        if first is not None:
            hidden |= places < first[:, :, None]
        if seen.more.shape[1]:
            row, token, place, position = seen.more
            left = (
                torch.zeros_like(row, dtype=torch.bool)
                if first is None
                else position < first[row, token]
            )
            hidden[row, token, place] = left
        return hidden


_current: ContextVar[Layout] = ContextVar("layout")


def current_layout() -> Layout:
    """Returns the layout of the forward pass that is running.

    Raises:
        ValueError: there is none.
    """
    if (layout := _current.get(None)) is None:
        raise ValueError("layout: is missing; call the model through Rows.forward")
    return layout


def _additive(hidden: Tensor, kind: MaskKind) -> Tensor:
    """Turns bool [rows, tokens, end] into an additive mask [rows, 1, groups * tokens, end]."""
    mask = torch.zeros(hidden.shape, dtype=kind.dtype, device=hidden.device).masked_fill_(
        hidden, float("-inf")
    )
    return mask[:, None].repeat(1, 1, kind.groups, 1)


def _tokens(feeds: Sequence[Feed], quantized: Mapping[int, QuantizedRow]) -> list[HostArray]:
    """Returns of each token its id, row, place and position, and which are of unquantized rows.

    Unread ids are left out.
    """
    lengths = [len(feed.ids) for feed in feeds]
    ids = [i for feed in feeds if not isinstance(feed.ids, Unread) for i in feed.ids]
    rows = np.repeat([feed.row for feed in feeds], lengths)
    places = [place for feed in feeds for place in range(feed.start, feed.start + len(feed.ids))]
    positions = [p for feed in feeds for p in _positions(feed)]
    is_dense = np.repeat([feed.row not in quantized for feed in feeds], lengths)
    numbers = (ids, rows, places, positions, np.flatnonzero(is_dense))
    return [np.asarray(one, dtype=np.int64) for one in numbers]


def _positions(feed: Feed) -> Sequence[int]:
    return feed.tree.positions if feed.tree else range(feed.start, feed.start + len(feed.ids))


def _scored(feeds: Sequence[Feed], scored: Sequence[int]) -> HostArray:
    """Returns the indices of the scored tokens in the packed batch, int64 [sum(scored)]."""
    ends = np.cumsum([len(feed.ids) for feed in feeds])
    each = [np.arange(end - n, end) for end, n in zip(ends, scored, strict=True)]
    return np.concatenate([np.empty(0, dtype=np.int64), *each]).astype(np.int64)


def _order(spans: Sequence[RowSpan]) -> HostArray | None:
    """Returns for each token its place in the spans' padded outputs; None if all are in order."""
    places: dict[int, int] = {}
    begin = 0
    for span in spans:
        for member in span.members:
            at = begin + (member.feed.row - span.first_row) * span.tokens
            places |= {member.offset + i: at + i for i in range(len(member.feed.ids))}
        begin += span.rows * span.tokens
    order = np.array([places[i] for i in range(len(places))], dtype=np.int64)
    in_order = len(order) == begin and bool((order == np.arange(begin)).all())
    return None if in_order else order
