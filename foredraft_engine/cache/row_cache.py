"""The cache of keys and values: rows with a fixed number of places, one sequence in each.

A forward pass is *packed*: the new tokens of all sequences form one sequence in a batch of one, so
that linear layers compute real tokens only, however ragged the batch. Each layer writes its new
keys and values into the rows and attends over views of them, so that nothing is copied. A row rolls
back by feeding the next tokens at an earlier position. A free row keeps its contents for reuse.

transformers calls `RowCache.update` and then the function of `foredraft_engine.cache.attention`,
both inside the model's own forward. A row can be quantized instead, see
`foredraft_engine.cache.quantized_row`.

This module knows nothing of tokens or texts, or of who owns a row.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache

from foredraft_engine.cache.bucket import Bucket
from foredraft_engine.cache.layout import Layout, LayoutPlan
from foredraft_engine.cache.quantized_row import QuantizedRow
from foredraft_engine.cache.row_store import RowStore
from foredraft_engine.feed import Feed

# So many places behind the end of a text keep their memory. Branches come and go in them, and
# giving memory back takes longer than a step of a small model.
_KEPT_PLACES = 512
# Making views takes a microsecond for each layer, and keeping them half a kilobyte.
_KEPT_VIEWS = 256


class RowCache(Cache):  # type: ignore[misc]
    """The keys and values of all rows.

    Each layer has a pair of stores. The memory of a row follows the text that it holds, so far as
    `RowStore` can give memory back.
    """

    def __init__(self, rows: int, capacity: int, keys: type[Tensor] = Tensor) -> None:
        """
        Args:
            rows: the number of rows.
            capacity: the number of places in a row.
            keys: what the keys are for the model.
        """
        super().__init__(layers=[])
        self._keys = keys
        self.rows, self.capacity = rows, capacity
        self.layout: Layout | None = None
        self._stores: dict[int, tuple[RowStore, RowStore]] = {}  # made when first needed
        self._used = [0] * rows  # the places of each row that have memory
        self._lent: set[int] = set()  # the rows that were lent and have yet to be used
        self._quantized: dict[int, QuantizedRow] = {}
        self._views: dict[tuple[int, int], Sequence[tuple[Tensor, Tensor]]] = {}

    def lend(self, row: int) -> None:
        """Notes that a row is lent for another text; any thread may do so."""
        self._lent.add(row)

    def plan(
        self, feeds: Sequence[Feed], scored: Sequence[int], bucket: Bucket | None = None
    ) -> LayoutPlan:
        """Prepares a forward pass on the host, padded to the sizes of a bucket if there is one.

        A row that is fed under another `CacheSpec` than before loses its contents.
        """
        for feed in feeds:
            self._use(feed.row, 0 if feed.cache else feed.start + len(feed.ids))
            if feed.cache is None:
                self._quantized.pop(feed.row, None)
            elif feed.row not in self._quantized or self._quantized[feed.row].spec != feed.cache:
                self._quantized[feed.row] = QuantizedRow(feed.cache)
        fed = {f.row: self._quantized[f.row] for f in feeds if f.cache}
        return LayoutPlan(feeds, scored, fed, bucket)

    def begin(self, plan: LayoutPlan, tensors: Sequence[Tensor], ids: Tensor | None) -> Layout:
        """Begins a forward pass and returns its layout.

        Args:
            tensors: the arrays of the plan on the device.
            ids: the packed ids if the host has not read them, int64 [n].
        """
        self.layout = Layout(plan, tensors, ids)
        return self.layout

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes the new keys and values of a layer into the rows.

        Args:
            key_states, value_states: packed, [1, kv heads, n, head size].
            layer_idx: the layer.

        Returns:
            The keys and values of all rows, [rows, kv heads, capacity, head size], uncopied. If all
            fed rows are quantized, the arguments.
        """
        layout = self.layout
        assert layout is not None, "RowCache.begin has to be called before a forward pass"
        layout.layer = layer_idx
        for index, span in enumerate(layout.spans):
            if span.quantized:
                begin = span.members[0].offset
                new = slice(begin, begin + span.tokens)
                seen = layout.visibility(index, None)
                span.quantized.write(
                    layer_idx, seen, key_states[0, :, new], value_states[0, :, new]
                )
        if not layout.any_dense:
            # Attention needs their shapes only.
            return key_states.as_subclass(self._keys), value_states
        if layer_idx not in self._stores:
            size = (self.rows, self.capacity)
            self._stores[layer_idx] = (RowStore(*size, key_states), RowStore(*size, value_states))
        keys, values = (store.tensor for store in self._stores[layer_idx])
        for store, states in ((keys, key_states), (values, value_states)):
            if len(layout.spans) == 1 and (feed := layout.spans[0].alone):
                store[feed.row, :, feed.start : feed.start + len(feed.ids)] = states[0]
            elif layout.all_dense:
                store[layout.rows, :, layout.places] = states[0].transpose(0, 1)
            else:
                rows, places = layout.rows[layout.dense], layout.places[layout.dense]
                store[rows, :, places] = states[0].transpose(0, 1)[layout.dense]
        return keys.as_subclass(self._keys), values

    def views(self, first_row: int, rows: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Returns the keys and values of neighbouring rows, of every layer that was written before.

        Returns:
            [rows, kv heads, capacity, head size] each, uncopied.
        """
        chosen = (first_row, rows)
        if chosen not in self._views:
            if len(self._views) == _KEPT_VIEWS:
                self._views.clear()
            end = first_row + rows
            self._views[chosen] = [
                (keys.tensor[first_row:end], values.tensor[first_row:end])
                for _, (keys, values) in sorted(self._stores.items())
            ]
        return self._views[chosen]

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Forks a row: copies positions `start` to `length` into another.

        A quantized row is shared instead of copied.
        """
        self._quantized.pop(target, None)
        if row := self._quantized.get(source):
            self._quantized[target] = row.fork(length)
            return
        self._use(target, length)
        for store in self._all_stores:
            store.tensor[target, :, start:length] = store.tensor[source, :, start:length]

    def row_bytes(self, row: int) -> int:
        """Returns the bytes of the places that a row has in use, in all layers."""
        if quantized := self._quantized.get(row):
            return quantized.resident_bytes
        return self._used[row] * sum(store.place_bytes for store in self._all_stores)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns 0: positions are explicit, and no model code may derive them from the cache."""
        return 0

    @property
    def _all_stores(self) -> Iterator[RowStore]:
        return (store for pair in self._stores.values() for store in pair)

    def _use(self, row: int, end: int) -> None:
        """Notes that a row is used up to a place, and gives the memory of a longer text back.

        The first use of a text clears what another left behind it, which may be NaN.
        """
        used, is_first = self._used[row], row in self._lent
        self._lent.discard(row)
        if used > end + _KEPT_PLACES:
            for store in self._all_stores:
                store.give_back(row, end, used)
            self._used[row] = end
        elif is_first and used > end:
            for store in self._all_stores:
                store.clear(row, end, used)
        self._used[row] = max(self._used[row], end)
