"""Rows with a forward pass each, for models that no packed pass is right for.

This module knows nothing of sampling: it turns ids at positions into logits.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass, Unread
from foredraft_engine.model.last_hidden import LastHidden
from foredraft_engine.model.rows import accepts


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
        self._positions = accepts(model, "position_ids")
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
