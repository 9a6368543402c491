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

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from foredraft_engine.cache.layout import Layout
from foredraft_engine.cache.quantized_row import QuantizedRow
from foredraft_engine.feed import Feed


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
