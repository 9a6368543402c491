"""Rows whose older keys and values are quantized.

The query at position i sees a group of positions quantized if it ends `residual_length` before i +
1, and as it is otherwise: a rule of positions alone. So what a token attends to does not depend on
the pass that it came in, be that a prompt's chunk, a proposal, or alone. Within a pass some queries
see a group in one form and some in the other; both are there, and masks pick one.

A group is quantized once, when the first query needs it. If tokens in it are proposed still, that
holds if they are accepted; the next pass begins where the text was committed to, and drops what it
finds beyond.

Nothing is ever written in place: groups and tails are shared by forks.

Knows nothing of tokens, or of which rows there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from foredraft_engine.cache.quantizers import Parts, quantizer
from foredraft_engine.cache_spec import CacheSpec

# Read back at once, for all layers one after another: what it takes is small beside a cache.
PIECE_POSITIONS = 256


@dataclass(frozen=True, slots=True)
class Sight:
    """What the queries of one pass over a quantized row see.

    Places are positions, but for alternatives at the end.
    """

    start: int  # place of the first query
    end: int
    limits: Tensor  # [tokens]: places before are seen quantized, from it on as they are
    all_groups: int  # seen quantized by every query
    any_groups: int  # seen quantized by some query
    hidden: Tensor  # bool [tokens, end]: not seen in any form
    first: int  # before which no query sees anything: it left the window
    whole: bool  # every query sees everything before the first one
    places: Tensor  # [end]

    @staticmethod
    def of(
        spec: CacheSpec, hidden: Tensor, positions: Sequence[int], window: int | None
    ) -> "Sight":
        """hidden: by causality, window and branches alone;

        positions: of the queries, the first of all first.
        """
        seen = [spec.groups_seen(p) for p in positions]
        limits = torch.tensor(seen, device=hidden.device) * spec.q_group_size
        start, end = positions[0], hidden.shape[-1]
        first = max(0, start + 1 - window) if window else 0
        whole = window is None or end <= window
        places = torch.arange(end, device=hidden.device)
        return Sight(start, end, limits, min(seen), max(seen), hidden, first, whole, places)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it takes, for all layers."""
        return self.limits, self.hidden, self.places

    def not_as_it_is(self, first: int) -> Tensor:
        """What is not seen as it is, of the places from `first` on: bool [tokens, end - first]."""
        return self.hidden[:, first:] | (self.places[first:] < self.limits[:, None])

    def not_quantized(self, first: int, last: int, by_all: int) -> Tensor | None:
        """The same of quantized places, bool [tokens, last - first]; None where everything is seen.
        by_all: places that all see quantized.
        """
        if last <= by_all and self.whole:
            return None
        return self.hidden[:, first:last] | (self.places[first:last] >= self.limits[:, None])


@dataclass(slots=True)
class _Layer:
    """A layer's share of a row:

    groups from position 0 on, and a tail, which overlaps with the last of them.
    """

    keys: Tensor  # [tail, kv heads, size]
    values: Tensor
    first: int = 0  # position of the tail's first
    groups: list[tuple[Parts, Parts]] = field(default_factory=list)


class QuantizedRow:
    """One sequence's keys and values in all layers."""

    def __init__(self, spec: CacheSpec) -> None:
        self.spec = spec
        self._quantizer = quantizer(spec.backend, spec.nbits)
        self._layers: dict[int, _Layer] = {}

    def fork(self, length: int) -> "QuantizedRow":
        """A row with the first `length` positions of this one; it copies nothing."""
        row = QuantizedRow(self.spec)
        for index, layer in self._layers.items():
            groups, tail = (
                layer.groups[: length // self.spec.q_group_size],
                max(0, length - layer.first),
            )
            row._layers[index] = _Layer(layer.keys[:tail], layer.values[:tail], layer.first, groups)
        return row

    def write(self, index: int, sight: Sight, keys: Tensor, values: Tensor) -> None:
        """Adds new positions to a layer, [kv heads, tokens, size], in place of what it holds from
        their first on.

        Raises:
            ValueError: what they have to see as it is was quantized long ago.
        """
        size, start = self.spec.q_group_size, sight.start
        keys, values = keys.transpose(0, 1), values.transpose(0, 1)
        layer = self._layers.get(index)
        if layer is None or start == 0:
            layer = self._layers[index] = _Layer(keys[:0], values[:0])
        kept = self.spec.groups_seen(start) * size
        if not layer.first <= kept <= start <= layer.first + len(layer.keys):
            raise ValueError(f"a quantized row does not go on at position {start}")
        del layer.groups[start // size :]  # they held rejected tokens
        stands = start - layer.first
        layer.keys = torch.cat([layer.keys[:stands], keys])
        layer.values = torch.cat([layer.values[:stands], values])
        for at in range(len(layer.groups), sight.any_groups):
            new = slice(at * size - layer.first, (at + 1) * size - layer.first)
            key = self._quantizer.quantize(layer.keys[new], self.spec.axis_key)
            layer.groups.append(
                (key, self._quantizer.quantize(layer.values[new], self.spec.axis_value))
            )
        if gone := kept - layer.first:
            layer.keys, layer.values = (
                layer.keys[gone:].clone(),
                layer.values[gone:].clone(),
            )  # not as views
            layer.first = kept

    def attend(
        self, index: int, sight: Sight, query: Tensor, scaling: float | None, softcap: float | None
    ) -> Tensor:
        """Attention of the queries in a layer, piece by piece (online softmax: arXiv 1805.02867).

        query: [kv heads, query heads of each * tokens, size]. Returns the same of values.
        """
        layer, size = self._layers[index], self.spec.q_group_size
        scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        softmax = _Softmax(scaled, softcap)
        # First of all: every query sees itself there, so that there is a finite largest score to
        # begin with.
        softmax.add(softmax.scores(layer.keys), layer.values, sight.not_as_it_is(layer.first))
        groups = layer.groups[: sight.any_groups]
        step = max(1, PIECE_POSITIONS // size)
        shapes = [torch.Size((size, *states.shape[1:])) for states in (layer.keys, layer.values)]
        for at in range(sight.first // size, len(groups), step):
            piece = groups[at : at + step]
            first, last = at * size, (at + len(piece)) * size
            hidden = sight.not_quantized(first, last, sight.all_groups * size)
            # Keys are gone before values are read: that is half of what it takes.
            scores = softmax.scores(
                self._quantizer.dequantize([k for k, _ in piece], self.spec.axis_key, shapes[0])
            )
            values = self._quantizer.dequantize(
                [v for _, v in piece], self.spec.axis_value, shapes[1]
            )
            softmax.add(scores, values, hidden)
        return softmax.result().to(query.dtype)

    @property
    def resident_bytes(self) -> int:
        """What it holds, by the storages of its tensors."""
        tensors = [t for layer in self._layers.values() for t in (layer.keys, layer.values)]
        tensors += [
            p
            for layer in self._layers.values()
            for pair in layer.groups
            for part in pair
            for p in part
        ]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())


class _Softmax:
    """Attention over pieces of a sequence:

    sums of values so far, by a largest score that may grow.
    """

    def __init__(self, query: Tensor, softcap: float | None) -> None:
        """query: [heads, n, size], scaled."""
        self._query, self._softcap = query, softcap
        self._largest = self._weight = self._sum = torch.empty(
            0
        )  # float32 [heads, n, 1], [.., 1], [.., size]

    def scores(self, keys: Tensor) -> Tensor:
        """float32 [heads, n, positions] from [positions, heads, size]."""
        return (self._query @ keys.permute(1, 2, 0)).float()

    def add(self, scores: Tensor, values: Tensor, hidden: Tensor | None) -> None:
        """Of one piece; values: [positions, heads, size]; hidden: bool [tokens, positions]."""
        if self._softcap is not None:
            scores = scores.div_(self._softcap).tanh_().mul_(self._softcap)
        if hidden is not None:
            # n is query heads * tokens: one mask for all heads.
            scores.unflatten(1, (-1, len(hidden))).masked_fill_(hidden, float("-inf"))
        largest = scores.amax(-1, keepdim=True)
        begun = len(self._largest) > 0
        if begun:
            largest = torch.maximum(largest, self._largest)
        weights = scores.sub_(largest).exp_()
        weight = weights.sum(-1, keepdim=True)
        summed = (weights.to(values.dtype) @ values.transpose(0, 1)).float()
        if begun:
            faded = (self._largest - largest).exp_()
            weight, summed = weight.addcmul_(self._weight, faded), summed.addcmul_(self._sum, faded)
        self._largest, self._weight, self._sum = largest, weight, summed

    def result(self) -> Tensor:
        """Attention, float32 [heads, n, size]."""
        return self._sum / self._weight
