"""The cache of keys and values: rows of fixed places, one sequence in each.

A forward pass is *packed*: the new tokens of all sequences stand one after another in a batch of one,
so that linear layers see only real tokens, however ragged the batch. Each layer writes its new keys
and values into the rows and attends row by row over views of them; nothing is copied, and rolling back
means feeding the next tokens at an earlier position. A free row keeps its contents for reuse.

transformers calls `RowCache.update` and then the attention function registered here, both inside the
model's own forward. Knows nothing of tokens, texts or who owns a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache

ATTENTION = "foredraft_rows"


@dataclass(frozen=True, slots=True)
class Tree:
    """How new tokens of one row branch: several ways on from one text, in one forward pass.

    Branches share the places before `trunk`; from there on a place is no position, and each token says which it has
    and whom it follows.
    """

    trunk: int
    positions: Sequence[int]  # of each new token in its own text
    seen: Sequence[Sequence[int]]  # for each new token, the places of its text from position `trunk` on, in order

    @staticmethod
    def beside(start: int, count: int, ends: Sequence[int]) -> "Tree | None":
        """`count` tokens in a line from `start` on, then one for each of `ends`, after so many of them."""
        if not ends:
            return None
        lengths = [*range(count), *ends]
        return Tree(start, [start + n for n in lengths], [range(start, start + n) for n in lengths])


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens of one row, written from place `start` on, which is their position unless they branch."""

    row: int
    start: int
    ids: Sequence[int]
    tree: Tree | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring rows that are fed equally many tokens: one attention call for all of them."""

    first_row: int
    rows: int
    tokens: int  # of each row
    offset: int  # of the first token in the packed batch
    starts: tuple[int, ...]  # place of each row's first new token
    end: int  # of the places in use once the new tokens are written
    tree: Tree | None = None  # such a row stands alone


class Layout:
    """Where the tokens of one packed forward belong. Feeds must be in the order of their rows."""

    def __init__(self, feeds: Sequence[Feed], device: torch.device) -> None:
        self.spans = _spans(feeds)
        self.device = device
        rows = [f.row for f in feeds for _ in f.ids]
        places = [f.start + i for f in feeds for i in range(len(f.ids))]
        branching = any(f.tree for f in feeds)
        positions = [p for f in feeds for p in _positions(f)] if branching else places
        self.rows, self.places, self.positions = torch.tensor([rows, places, positions], device=device)  # [n] each
        self._masks: dict[tuple[int, int | None, int, torch.dtype], Tensor | None] = {}

    def mask(self, index: int, window: int | None, groups: int, dtype: torch.dtype) -> Tensor | None:
        """Additive mask of a span, [rows, 1, groups * tokens, end]; None where nothing is hidden."""
        key = (index, window, groups, dtype)
        if key not in self._masks:
            self._masks[key] = self._make_mask(self.spans[index], window, groups, dtype)
        return self._masks[key]

    def _make_mask(self, span: Span, window: int | None, groups: int, dtype: torch.dtype) -> Tensor | None:
        if span.tree:
            hidden = _hidden_in_tree(span, span.tree, window, self.device)
            return _additive(hidden, groups, dtype)
        if span.rows == 1 and span.tokens == 1 and (window is None or span.end <= window):
            return None
        starts = torch.tensor(span.starts, device=self.device)
        at = starts[:, None, None] + torch.arange(span.tokens, device=self.device)[:, None]  # [rows, tokens, 1]
        seen = torch.arange(span.end, device=self.device)  # [end]
        hidden = seen > at
        if window is not None:
            hidden |= seen <= at - window
        return _additive(hidden, groups, dtype)


def _additive(hidden: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """From [rows, tokens, end] to [rows, 1, groups * tokens, end]."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
    return mask[:, None].repeat(1, 1, groups, 1)


def _hidden_in_tree(span: Span, tree: Tree, window: int | None, device: torch.device) -> Tensor:
    """What each branching token does not attend to, [1, tokens, end]."""
    hidden = np.ones((1, span.tokens, span.end), dtype=np.bool_)  # numpy: many small writes
    for i, (position, seen) in enumerate(zip(tree.positions, tree.seen, strict=True)):
        first = max(0, position - window + 1) if window else 0  # the first position in the window
        hidden[0, i, first : tree.trunk] = False
        hidden[0, i, [*seen[max(0, first - tree.trunk) :], span.starts[0] + i]] = False
    return torch.from_numpy(hidden).to(device)


def _positions(feed: Feed) -> Sequence[int]:
    return feed.tree.positions if feed.tree else range(feed.start, feed.start + len(feed.ids))


def _spans(feeds: Sequence[Feed]) -> list[Span]:
    spans: list[Span] = []
    offset = 0
    for feed in feeds:
        last = spans[-1] if spans else None
        plain = last is not None and last.tree is None and feed.tree is None
        if plain and last and last.first_row + last.rows == feed.row and last.tokens == len(feed.ids):
            starts, end = (*last.starts, feed.start), max(last.end, feed.start + len(feed.ids))
            spans[-1] = Span(last.first_row, last.rows + 1, last.tokens, last.offset, starts, end)
        else:
            spans.append(Span(feed.row, 1, len(feed.ids), offset, (feed.start,), feed.start + len(feed.ids), feed.tree))
        offset += len(feed.ids)
    return spans


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of all rows, one pair of tensors [rows, kv heads, capacity, head size] a layer."""

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__(layers=[])
        self.rows, self.capacity = rows, capacity
        self.layout: Layout | None = None
        self._stores: dict[int, tuple[Tensor, Tensor]] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes [1, kv heads, n, head size] into the rows; returns the layer's whole store, uncopied."""
        layout = self.layout
        assert layout is not None, "a forward pass begins by setting the layout"
        if layer_idx not in self._stores:
            self._stores[layer_idx] = (self._allocate(key_states), self._allocate(value_states))
        for store, states in zip(self._stores[layer_idx], (key_states, value_states), strict=True):
            if len(layout.spans) == 1 and layout.spans[0].rows == 1:
                span = layout.spans[0]
                store[span.first_row, :, span.starts[0] : span.starts[0] + span.tokens] = states[0]
            else:
                store[layout.rows, :, layout.places] = states[0].transpose(0, 1)
        return self._stores[layer_idx]

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies positions `start` to `length` of a row into another: a fork."""
        for store in (tensor for pair in self._stores.values() for tensor in pair):
            store[target, :, start:length] = store[source, :, start:length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Zero: positions are given explicitly, no model code may derive them from the cache."""
        return 0

    def _allocate(self, states: Tensor) -> Tensor:
        _, heads, _, size = states.shape
        return states.new_zeros(self.rows, heads, self.capacity, size)


def row_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of packed queries over the rows, as transformers' attention functions are called.

    Args:
        query: [1, heads, n, head size], packed.
        key, value: the whole store of the layer, [rows, kv heads, capacity, head size].

    Returns:
        [1, n, heads, value size].
    """
    if layout is None:
        raise ValueError("row attention is called through Rows.forward only")
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise NotImplementedError("attention sinks and position biases have no packed form")
    groups = query.shape[1] // key.shape[1]
    parts = []
    for index, span in enumerate(layout.spans):
        rows = slice(span.first_row, span.first_row + span.rows)
        k, v = key[rows, :, : span.end], value[rows, :, : span.end]
        q = query[0, :, span.offset : span.offset + span.rows * span.tokens]  # [heads, rows * tokens, size]
        # The query heads of one kv head stand beside their tokens, so that no key or value is repeated.
        q = q.view(key.shape[1], groups, span.rows, span.tokens, -1).permute(2, 0, 1, 3, 4)
        q = q.reshape(span.rows, key.shape[1], groups * span.tokens, -1)
        mask = layout.mask(index, sliding_window, groups, q.dtype)
        out = _attend(q, k, v, mask, scaling, softcap)  # [rows, kv heads, groups * tokens, size]
        out = out.view(span.rows, key.shape[1], groups, span.tokens, -1).permute(0, 3, 1, 2, 4)
        parts.append(out.reshape(span.rows * span.tokens, query.shape[1], -1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None
) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    weights = torch.tanh(q @ k.transpose(2, 3) * (scaling or q.shape[-1] ** -0.5) / softcap) * softcap
    weights = weights if mask is None else weights + mask
    return weights.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v


AttentionInterface.register(ATTENTION, row_attention)
