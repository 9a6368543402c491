"""A model's forward pass over rows: packed into one batch, or sequence by sequence.

Both kinds keep every sequence in a row of its own and take the same calls, so that nothing above this
module knows which one is at work. `decoding.proof` decides at load which one a model is given.

Knows nothing of tokens to come: it turns ids at positions into logits.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from decoding.attention import ATTENTION
from decoding.cache import Feed, RowCache


class Rows(Protocol):
    """A model with a cache of rows. One thread calls it."""

    layout: str
    count: int
    capacity: int
    device: torch.device
    spare: int  # places of a row beyond its positions, for the branches of a tree; 0 where feeds cannot be trees
    quantizes: bool  # whether a feed can say how its row is quantized

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        """Writes the fed tokens into their rows and scores the last ones of each.

        Args:
            feeds: at most one for each row, in the order of rows. What a row holds at or after
                `start` is overwritten: that is the rollback.
            scored: for each feed, how many of its last tokens want logits.

        Returns:
            float32 [sum(scored), vocab].
        """

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Makes the first `length` positions of `target` equal to those of `source`."""


class PackedRows:
    """All rows in one forward pass, see `decoding.cache`."""

    layout = "packed"

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
        self._model = model
        self._cache = RowCache(count, capacity + spare)
        self._keeps = _accepts(model, "logits_to_keep")
        self.count, self.capacity, self.spare = count, capacity, spare
        self.quantizes = True
        self.device = next(model.parameters()).device

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        layout = self._cache.begin(feeds, self.device)
        wanted = _wanted(feeds, scored, self.device)
        output = self._model(
            input_ids=torch.tensor([[i for feed in feeds for i in feed.ids]], device=self.device),
            position_ids=layout.positions[None],
            past_key_values=self._cache,
            use_cache=True,
            layout=layout,
            **({"logits_to_keep": wanted} if self._keeps else {}),
        )
        logits: Tensor = output.logits[0]
        return (logits if self._keeps else logits[wanted]).float()

    def copy_row(self, source: int, target: int, length: int) -> None:
        self._cache.copy_row(source, target, length)


class SeparateRows:
    """One forward pass after another, each over an ordinary cache of transformers.

    For models whose own code derives something from the whole batch: masks, ALiBi, positions.
    """

    layout = "separate"
    spare = 0
    quantizes = False

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        self._model = model
        # Made without the model's config: every layer keeps all positions, so that any rollback is
        # a crop; sliding windows are then in the masks alone, which the model makes itself.
        self._caches = [DynamicCache() for _ in range(count)]
        self._positions = _accepts(model, "position_ids")
        self.count, self.capacity = count, capacity
        self.device = next(model.parameters()).device

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        return torch.cat([self._forward_one(feed, n) for feed, n in zip(feeds, scored, strict=True)])

    def _forward_one(self, feed: Feed, scored: int) -> Tensor:
        cache = self._caches[feed.row]
        if (extra := cache.get_seq_length() - feed.start) > 0:
            if feed.start == 0:
                cache = self._caches[feed.row] = DynamicCache()
            else:
                cache.crop(-extra)
        arguments: dict[str, Any] = {"input_ids": torch.tensor([feed.ids], device=self.device)}
        if self._positions:
            end = feed.start + len(feed.ids)
            arguments["position_ids"] = torch.arange(feed.start, end, device=self.device)[None]
        logits: Tensor = self._model(past_key_values=cache, use_cache=True, **arguments).logits[0]
        return logits[len(feed.ids) - scored :].float()

    def copy_row(self, source: int, target: int, length: int) -> None:
        copy = DynamicCache()
        for index, layer in enumerate(self._caches[source].layers):
            copy.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), index)
        self._caches[target] = copy


def _wanted(feeds: Sequence[Feed], scored: Sequence[int], device: torch.device) -> Tensor:
    """Places of the scored tokens in the packed batch, int64 [sum(scored)]."""
    places: list[int] = []
    end = 0
    for feed, n in zip(feeds, scored, strict=True):
        end += len(feed.ids)
        places.extend(range(end - n, end))
    return torch.tensor(places, dtype=torch.long, device=device)


def _accepts(model: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters
