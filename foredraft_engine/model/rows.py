"""A model's forward pass over rows: packed into one batch, or sequence by sequence.

Both kinds of rows keep each sequence in a row and have the same interface, so that no other module
depends on the kind. `foredraft_engine.model.proof` chooses it when a model is loaded.

This module knows nothing of sampling: it turns ids at positions into logits.
"""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from foredraft_engine.cache.attention import ATTENTION, AttendedKeys
from foredraft_engine.cache.layout import LayoutPlan
from foredraft_engine.cache.row_cache import RowCache
from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass, Unread
from foredraft_engine.model.last_hidden import LastHidden
from foredraft_engine.tracing.traced_layers import TracedLayers


class Rows(Protocol):
    """A model with a cache of rows. Only one thread may call it, but for `lend`."""

    layout: str
    """The kind of rows: "packed" or "separate"."""
    count: int
    """The number of rows."""
    capacity: int
    """The number of positions in a row."""
    device: torch.device
    spare: int
    """The number of places in a row beyond its positions, for the branches of a full sequence."""
    branches: bool
    """Whether a feed can be a tree."""
    quantizes: bool
    """Whether a row can be quantized."""
    runs_ahead: bool
    """Whether tokens are drafted without the host in between, on a device that computes while the
    host does something else. A CPU gains nothing by it, and loses the passes after an early stop.
    """

    @property
    def hidden(self) -> Tensor:
        """The last hidden states of all tokens of the last forward pass, [sum(fed), size]."""

    def lend(self, row: int) -> None:
        """Notes that a row is lent for another text, before it is fed. Any thread may do so.

        What the row holds behind the beginning of that text has no effect any more, NaN included.
        """

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        """Writes the fed tokens into their rows and scores the last ones of each feed.

        Args:
            feeds: at most one feed for each row, in the order of rows. The contents of a row from
                `start` on are overwritten, which is how a row rolls back.
            scored: for each feed, the number of its last tokens that get logits.

        Returns:
            Logits, float32 [sum(scored), vocab].
        """

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        """Prepares what `forward` does. The ids of all feeds may be unread."""

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies positions `start` to `length` of row `source` to row `target`."""

    def row_bytes(self, row: int) -> int:
        """Returns the bytes that the keys and values of a row take."""


class PackedRows:
    """Rows that share one forward pass, see `foredraft_engine.cache.row_cache`."""

    layout = "packed"

    branches = True

    attention: ClassVar[str] = ATTENTION
    """The attention implementation of transformers that the model runs with."""
    keys: ClassVar[type[Tensor]] = Tensor
    """What the keys of the rows are for the model."""

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        model.set_attn_implementation(self.attention)  # type: ignore[operator]
        self.model = model
        self.cache = RowCache(count, capacity + spare, self.keys)
        self._keeps = _accepts(model, "logits_to_keep")
        self._hidden = LastHidden.of(model)
        self.count, self.capacity, self.spare = count, capacity, spare
        self.quantizes = True
        self.device = next(model.parameters()).device
        self.runs_ahead = self.device.type != "cpu"
        self.traced: TracedLayers | None = None
        """The layers of the model, if they are traced."""

    def lend(self, row: int) -> None:
        self.cache.lend(row)

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        return self.prepare(feeds, scored).alone(self.device)

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        plan = self.cache.plan(feeds, scored)
        return ForwardPass(plan.arrays, partial(self._run, plan))

    def _run(self, plan: LayoutPlan, tensors: Sequence[Tensor], ids: Tensor | None) -> Tensor:
        layout = self.cache.begin(plan, tensors, ids)
        graphs = self.traced.running(self.cache, layout) if self.traced else nullcontext()
        with layout.current(), graphs:
            output = self.model(
                input_ids=layout.ids[None],
                position_ids=layout.positions[None],
                past_key_values=self.cache,
                use_cache=True,
                **({"logits_to_keep": layout.scored} if self._keeps else {}),
            )
        logits: Tensor = output.logits[0]
        return (logits if self._keeps else logits[layout.scored]).float()

    @property
    def hidden(self) -> Tensor:
        return self._hidden.last[0]

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        self.cache.copy_row(source, target, length, start)

    def row_bytes(self, row: int) -> int:
        return self.cache.row_bytes(row)


class InlineRows(PackedRows):
    """Packed rows of a model that calls torch's attention itself, such as Falcon."""

    attention = "sdpa"
    keys = AttendedKeys


class SeparateRows:
    """Rows with a forward pass each, over an ordinary cache of transformers.

    They are for models whose own code derives masks, ALiBi or positions from the whole batch.
    """

    layout = "separate"
    spare = 0
    branches = False
    quantizes = False

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        self._model = model
        # Without the model's config every layer keeps all positions, so that every rollback is a
        # crop. Sliding windows are then only in the masks, which the model makes itself.
        self._caches = [DynamicCache() for _ in range(count)]
        self._positions = _accepts(model, "position_ids")
        self._hidden = LastHidden.of(model)
        self._last: list[Tensor] = []  # hidden states of each sequence
        self.count, self.capacity = count, capacity
        self.device = next(model.parameters()).device
        self.runs_ahead = self.device.type != "cpu"

    def lend(self, row: int) -> None:
        """Does nothing: the cache of a row ends where its text does."""

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        return self.prepare(feeds, scored).alone(self.device)

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        ids = [i for feed in feeds if not isinstance(feed.ids, Unread) for i in feed.ids]
        return ForwardPass([np.array(ids, dtype=np.int64)], partial(self._run, feeds, scored))

    def _run(
        self,
        feeds: Sequence[Feed],
        scored: Sequence[int],
        tensors: Sequence[Tensor],
        ids: Tensor | None,
    ) -> Tensor:
        logits, self._last = [], []
        each = (tensors[0] if ids is None else ids).split([len(feed.ids) for feed in feeds])
        for feed, n, its_ids in zip(feeds, scored, each, strict=True):
            logits.append(self._forward_one(feed, n, its_ids))
            self._last.append(self._hidden.last[0])
        return torch.cat(logits)

    @property
    def hidden(self) -> Tensor:
        return torch.cat(self._last)

    def _forward_one(self, feed: Feed, scored: int, ids: Tensor) -> Tensor:
        cache = self._caches[feed.row]
        if cache.get_seq_length() > feed.start:
            if feed.start == 0:
                cache = self._caches[feed.row] = DynamicCache()
            else:
                # Layer by layer, because a pass that failed has filled only some of them.
                for layer in cache.layers:
                    layer.crop(min(0, feed.start - layer.get_seq_length()))
        arguments: dict[str, Any] = {"input_ids": ids[None]}
        if self._positions:
            end = feed.start + len(feed.ids)
            arguments["position_ids"] = torch.arange(feed.start, end, device=self.device)[None]
        logits: Tensor = self._model(past_key_values=cache, use_cache=True, **arguments).logits[0]
        return logits[len(feed.ids) - scored :].float()

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        copy, old = DynamicCache(), self._caches[target]
        for index, layer in enumerate(self._caches[source].layers):
            keys, values = layer.keys[:, :, start:length], layer.values[:, :, start:length]
            if start:
                kept = old.layers[index]
                keys = torch.cat([kept.keys[:, :, :start], keys], dim=2)
                values = torch.cat([kept.values[:, :, :start], values], dim=2)
            copy.update(keys.clone(), values.clone(), index)
        self._caches[target] = copy

    def row_bytes(self, row: int) -> int:
        layers = self._caches[row].layers
        return int(sum(layer.keys.nbytes + layer.values.nbytes for layer in layers))


def _accepts(model: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters
