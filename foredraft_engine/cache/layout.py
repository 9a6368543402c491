"""The layout of a forward pass over rows: where its tokens are written, and what each attends to.

This module knows nothing of keys and values.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.cache.quantized_row import QuantizedRow
from foredraft_engine.cache.visibility import Visibility
from foredraft_engine.feed import Feed, Tree


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Neighbouring rows with equally many new tokens, which one attention call serves."""

    first_row: int
    rows: int
    """The number of rows; 1 for a row with a tree, and for a quantized one."""
    tokens: int
    """The new tokens of each row."""
    offset: int
    """The index of the first token in the packed batch."""
    starts: tuple[int, ...]
    """The place of the first new token in each row."""
    end: int
    """One past the last place in use once the new tokens are written."""
    tree: Tree | None = None
    quantized: QuantizedRow | None = None


class Layout:
    """Where the tokens of one packed forward pass are written, and what they attend to."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        device: torch.device,
        quantized: Mapping[int, QuantizedRow] | None = None,
    ) -> None:
        """
        Args:
            feeds: in the order of their rows.
            device: of the tensors.
            quantized: the quantized rows among those that are fed.
        """
        quantized = quantized or {}
        self.spans = _spans(feeds, quantized)
        self.device = device
        self.layer = 0  # the layer that was written last, whose attention comes next
        rows = [f.row for f in feeds for _ in f.ids]
        places = [f.start + i for f in feeds for i in range(len(f.ids))]
        branching = any(f.tree for f in feeds)
        positions = [p for f in feeds for p in _positions(f)] if branching else places
        self.rows, self.places, self.positions = torch.tensor(
            [rows, places, positions], device=device
        )  # [n] each
        dense = [i for i, row in enumerate(rows) if row not in quantized] if quantized else []
        self.all_dense, self.any_dense = not quantized, not quantized or bool(dense)
        # The tokens of unquantized rows, if some rows are quantized.
        self.dense = torch.tensor(dense, dtype=torch.long, device=device)
        self._masks: dict[tuple[int, int | None, int, torch.dtype], Tensor | None] = {}
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
        key = (index, window, groups, dtype)
        if key not in self._masks:
            self._masks[key] = self._make_mask(self.spans[index], window, groups, dtype)
        return self._masks[key]

    def visibility(self, index: int, window: int | None) -> Visibility:
        """Returns what the queries read in the span of a quantized row."""
        key = (index, window)
        if key not in self._visibilities:
            span, hidden = self.spans[index], self._hidden(self.spans[index], window)[0]
            assert span.quantized is not None
            positions = span.tree.positions if span.tree else range(span.starts[0], span.end)
            self._visibilities[key] = Visibility.of(span.quantized.spec, hidden, positions, window)
        return self._visibilities[key]

    def _make_mask(
        self, span: RowSpan, window: int | None, groups: int, dtype: torch.dtype
    ) -> Tensor | None:
        if (
            span.rows == 1
            and span.tokens == 1
            and not span.tree
            and (window is None or span.end <= window)
        ):
            return None
        return _additive(self._hidden(span, window), groups, dtype)

    def _hidden(self, span: RowSpan, window: int | None) -> Tensor:
        """Returns the places that each new token does not attend to, bool [rows, tokens, end]."""
        if span.tree:
            return _hidden_in_tree(span, span.tree, window, self.device)
        starts = torch.tensor(span.starts, device=self.device)
        at = (
            starts[:, None, None] + torch.arange(span.tokens, device=self.device)[:, None]
        )  # [rows, tokens, 1]
        seen = torch.arange(span.end, device=self.device)  # [end]
        hidden = seen > at
        if window is not None:
            hidden |= seen <= at - window
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


def _additive(hidden: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """Turns bool [rows, tokens, end] into an additive mask [rows, 1, groups * tokens, end]."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
        hidden, float("-inf")
    )
    return mask[:, None].repeat(1, 1, groups, 1)


def _hidden_in_tree(span: RowSpan, tree: Tree, window: int | None, device: torch.device) -> Tensor:
    """Returns the places that each token of a tree does not attend to, bool [1, tokens, end]."""
    hidden = np.ones(
        (1, span.tokens, span.end), dtype=np.bool_
    )  # numpy is faster at many small writes
    for i, (position, seen) in enumerate(zip(tree.positions, tree.seen, strict=True)):
        first = max(0, position - window + 1) if window else 0  # of the window
        hidden[0, i, first : tree.trunk] = False
        hidden[0, i, [*seen[max(0, first - tree.trunk) :], span.starts[0] + i]] = False
    return torch.from_numpy(hidden).to(device)


def _positions(feed: Feed) -> Sequence[int]:
    return feed.tree.positions if feed.tree else range(feed.start, feed.start + len(feed.ids))


def _spans(feeds: Sequence[Feed], quantized: Mapping[int, QuantizedRow]) -> list[RowSpan]:
    spans: list[RowSpan] = []
    offset = 0
    for feed in feeds:
        last = spans[-1] if spans else None
        row = quantized.get(feed.row)
        plain = last is not None and not (last.tree or feed.tree or last.quantized or row)
        if (
            plain
            and last
            and last.first_row + last.rows == feed.row
            and last.tokens == len(feed.ids)
        ):
            starts, end = (*last.starts, feed.start), max(last.end, feed.start + len(feed.ids))
            spans[-1] = RowSpan(
                last.first_row, last.rows + 1, last.tokens, last.offset, starts, end
            )
        else:
            end = feed.start + len(feed.ids)
            spans.append(
                RowSpan(feed.row, 1, len(feed.ids), offset, (feed.start,), end, feed.tree, row)
            )
        offset += len(feed.ids)
    return spans
