"""A model's forward pass over rows: packed into one batch, or sequence by sequence.

Both kinds keep every sequence in a row of its own and take the same calls, so that nothing above
this module knows which one is at work. `foredraft_engine.model.proof` decides at load which one a
model is given.

Knows nothing of tokens to come: it turns ids at positions into logits.
"""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from foredraft_engine.cache.attention import ATTENTION
from foredraft_engine.cache.row_cache import RowCache
from foredraft_engine.feed import Feed


class Rows(Protocol):
    """A model with a cache of rows. One thread calls it."""

    layout: str
    count: int
    capacity: int
    device: torch.device
    spare: (
        int  # places of a row beyond its positions, for branches beside a sequence of full length
    )
    branches: bool  # whether feeds can be trees
    quantizes: bool  # whether a feed can say how its row is quantized

    @property
    def hidden(self) -> Tensor:
        """Of the last forward pass: what every token's logits are made from, [sum(fed), size]."""

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        """Writes the fed tokens into their rows and scores the last ones of each.

        Args:
            feeds: at most one for each row, in the order of rows. What a row holds at or after
                `start` is overwritten: that is the rollback.
            scored: for each feed, how many of its last tokens want logits.

        Returns:
            float32 [sum(scored), vocab].
        """

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Makes positions `start` to `length` of `target` equal to those of `source`."""


class PackedRows:
    """All rows in one forward pass, see `foredraft_engine.cache.row_cache`."""

    layout = "packed"

    branches = True

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
        self._model = model
        self._cache = RowCache(count, capacity + spare)
        self._keeps = _accepts(model, "logits_to_keep")
        self._hidden = _LastHidden.of(model)
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

    @property
    def hidden(self) -> Tensor:
        return self._hidden.last[0]

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        self._cache.copy_row(source, target, length, start)


class SeparateRows:
    """One forward pass after another, each over an ordinary cache of transformers.

    For models whose own code derives something from the whole batch: masks, ALiBi, positions.
    """

    layout = "separate"
    spare = 0
    branches = False
    quantizes = False

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        self._model = model
        # Made without the model's config: every layer keeps all positions, so that any rollback is
        # a crop; sliding windows are then in the masks alone, which the model makes itself.
        self._caches = [DynamicCache() for _ in range(count)]
        self._positions = _accepts(model, "position_ids")
        self._hidden = _LastHidden.of(model)
        self._last: list[Tensor] = []  # hidden states of each sequence
        self.count, self.capacity = count, capacity
        self.device = next(model.parameters()).device

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        logits, self._last = [], []
        for feed, n in zip(feeds, scored, strict=True):
            logits.append(self._forward_one(feed, n))
            self._last.append(self._hidden.last[0])
        return torch.cat(logits)

    @property
    def hidden(self) -> Tensor:
        return torch.cat(self._last)

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


class _LastHidden:
    """Keeps what the model's head was last given, before it was cut to the tokens that want logits."""

    _of: ClassVar["WeakKeyDictionary[nn.Module, _LastHidden]"] = WeakKeyDictionary()

    def __init__(self, model: nn.Module) -> None:
        self.last = torch.empty(1, 0, 0)  # [1, n, size]
        model.base_model.register_forward_hook(self._keep)  # type: ignore[union-attr]

    @classmethod
    def of(cls, model: nn.Module) -> "_LastHidden":
        """One for each model, however often its rows are made: a proof makes several."""
        if model not in cls._of:
            cls._of[model] = cls(model)
        return cls._of[model]

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.last = output.last_hidden_state


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
