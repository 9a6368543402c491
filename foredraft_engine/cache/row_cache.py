"""The cache of keys and values: rows of fixed places, one sequence in each.

A forward pass is *packed*: the new tokens of all sequences stand one after another in a batch of
one, so that linear layers see only real tokens, however ragged the batch. Each layer writes its new
keys and values into the rows and attends row by row over views of them; nothing is copied, and
rolling back means feeding the next tokens at an earlier position. A free row keeps its contents for
reuse.

transformers calls `RowCache.update` and then the function of `foredraft_engine.cache.attention`,
both inside the model's own forward. A row can be quantized instead, see
`foredraft_engine.cache.quantized_row`. Knows nothing of tokens, texts or who owns a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from foredraft_engine.cache.quantized_row import QuantizedRow, Sight
from foredraft_engine.cache.quantizers import CacheSpec


@dataclass(frozen=True, slots=True)
class Tree:
    """How new tokens of one row branch: several ways on from one text, in one forward pass.

    Branches share the places before `trunk`; from there on a place is no position, and each token
    says which it has and whom it follows.
    """

    trunk: int
    positions: Sequence[int]  # of each new token in its own text
    seen: Sequence[
        Sequence[int]
    ]  # for each new token, the places of its text from position `trunk` on, in order

    @staticmethod
    def beside(start: int, count: int, ends: Sequence[int]) -> "Tree | None":
        """`count` tokens in a line from `start` on, then one for each of `ends`, after so many of
        them.
        """
        if not ends:
            return None
        lengths = [*range(count), *ends]
        return Tree(start, [start + n for n in lengths], [range(start, start + n) for n in lengths])


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens of one row, written from place `start` on, which is their position unless they
    branch.
    """

    row: int
    start: int
    ids: Sequence[int]
    tree: Tree | None = None
    cache: CacheSpec | None = None  # how the row is quantized, if it is


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Neighbouring rows that are fed equally many tokens: one attention call for all of them."""

    first_row: int
    rows: int
    tokens: int  # of each row
    offset: int  # of the first token in the packed batch
    starts: tuple[int, ...]  # place of each row's first new token
    end: int  # of the places in use once the new tokens are written
    tree: Tree | None = None  # such a row stands alone
    quantized: QuantizedRow | None = None  # and such a one


class Layout:
    """Where the tokens of one packed forward belong. Feeds must be in the order of their rows."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        device: torch.device,
        quantized: Mapping[int, QuantizedRow] | None = None,
    ) -> None:
        """quantized: those rows that are."""
        quantized = quantized or {}
        self.spans = _spans(feeds, quantized)
        self.device = device
        self.layer = 0  # that was written last: attention follows
        rows = [f.row for f in feeds for _ in f.ids]
        places = [f.start + i for f in feeds for i in range(len(f.ids))]
        branching = any(f.tree for f in feeds)
        positions = [p for f in feeds for p in _positions(f)] if branching else places
        self.rows, self.places, self.positions = torch.tensor(
            [rows, places, positions], device=device
        )  # [n] each
        dense = [i for i, row in enumerate(rows) if row not in quantized] if quantized else []
        self.all_dense, self.any_dense = not quantized, not quantized or bool(dense)
        self.dense = torch.tensor(
            dense, dtype=torch.long, device=device
        )  # of the tokens, where not all are
        self._masks: dict[tuple[int, int | None, int, torch.dtype], Tensor | None] = {}
        self._sights: dict[tuple[int, int | None], Sight] = {}

    def mask(
        self, index: int, window: int | None, groups: int, dtype: torch.dtype
    ) -> Tensor | None:
        """Additive mask of a span, [rows, 1, groups * tokens, end];

        None where nothing is hidden.
        """
        key = (index, window, groups, dtype)
        if key not in self._masks:
            self._masks[key] = self._make_mask(self.spans[index], window, groups, dtype)
        return self._masks[key]

    def sight(self, index: int, window: int | None) -> Sight:
        """What is seen in the span of a quantized row."""
        key = (index, window)
        if key not in self._sights:
            span, hidden = self.spans[index], self._hidden(self.spans[index], window)[0]
            assert span.quantized is not None
            positions = span.tree.positions if span.tree else range(span.starts[0], span.end)
            self._sights[key] = Sight.of(span.quantized.spec, hidden, positions, window)
        return self._sights[key]

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
        """What is not attended to, bool [rows, tokens, end]."""
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


def _additive(hidden: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """From [rows, tokens, end] to [rows, 1, groups * tokens, end]."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
        hidden, float("-inf")
    )
    return mask[:, None].repeat(1, 1, groups, 1)


def _hidden_in_tree(span: RowSpan, tree: Tree, window: int | None, device: torch.device) -> Tensor:
    """What each branching token does not attend to, [1, tokens, end]."""
    hidden = np.ones((1, span.tokens, span.end), dtype=np.bool_)  # numpy: many small writes
    for i, (position, seen) in enumerate(zip(tree.positions, tree.seen, strict=True)):
        first = max(0, position - window + 1) if window else 0  # the first position in the window
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


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of all rows, one pair of tensors [rows, kv heads, capacity, head size] a
    layer.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__(layers=[])
        self.rows, self.capacity = rows, capacity
        self.layout: Layout | None = None
        self._stores: dict[int, tuple[Tensor, Tensor]] = {}  # made when first needed
        self._quantized: dict[int, QuantizedRow] = {}

    def begin(self, feeds: Sequence[Feed], device: torch.device) -> Layout:
        """Called before a forward pass.

        What a row holds is forgotten where it is now kept in another way.
        """
        for feed in feeds:
            if feed.cache is None:
                self._quantized.pop(feed.row, None)
            elif feed.row not in self._quantized or self._quantized[feed.row].spec != feed.cache:
                self._quantized[feed.row] = QuantizedRow(feed.cache)
        fed = {f.row: self._quantized[f.row] for f in feeds if f.cache}
        self.layout = Layout(feeds, device, fed)
        return self.layout

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes [1, kv heads, n, head size] into the rows;

        returns the layer's whole store, uncopied.
        """
        layout = self.layout
        assert layout is not None, "a forward pass begins by setting the layout"
        layout.layer = layer_idx
        for index, span in enumerate(layout.spans):
            if span.quantized:
                new = slice(span.offset, span.offset + span.tokens)
                sight = layout.sight(index, None)
                span.quantized.write(
                    layer_idx, sight, key_states[0, :, new], value_states[0, :, new]
                )
        if not layout.any_dense:
            return key_states, value_states  # which attention asks for their shape
        if layer_idx not in self._stores:
            self._stores[layer_idx] = (self._allocate(key_states), self._allocate(value_states))
        for store, states in zip(self._stores[layer_idx], (key_states, value_states), strict=True):
            if len(layout.spans) == 1 and layout.spans[0].rows == 1:
                span = layout.spans[0]
                store[span.first_row, :, span.starts[0] : span.starts[0] + span.tokens] = states[0]
            elif layout.all_dense:
                store[layout.rows, :, layout.places] = states[0].transpose(0, 1)
            else:
                rows, places = layout.rows[layout.dense], layout.places[layout.dense]
                store[rows, :, places] = states[0].transpose(0, 1)[layout.dense]
        return self._stores[layer_idx]

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies positions `start` to `length` of a row into another:

        a fork. A quantized one shares what it has.
        """
        self._quantized.pop(target, None)
        if row := self._quantized.get(source):
            self._quantized[target] = row.fork(length)
            return
        for store in (tensor for pair in self._stores.values() for tensor in pair):
            store[target, :, start:length] = store[source, :, start:length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Zero: positions are given explicitly, no model code may derive them from the cache."""
        return 0

    def _allocate(self, states: Tensor) -> Tensor:
        _, heads, _, size = states.shape
        return states.new_zeros(self.rows, heads, self.capacity, size)
