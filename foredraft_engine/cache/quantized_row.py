"""Rows whose older keys and values are quantized.

The query at position i reads a group of positions quantized if the group ends at least
`residual_length` positions before i + 1; otherwise it reads the group exactly. This rule depends on
positions alone. So what a token attends to does not depend on the pass that it came in, be it a
chunk of a prompt, a proposal, or a single token. Within one pass some queries read a group in one
form and some in the other: both forms are there, and masks choose between them.

A group is quantized once, when the first query needs it. If some of its tokens are only proposed,
the group stays valid if they are accepted; otherwise the next pass, which begins at the end of the
committed text, drops it.

Nothing is ever written in place, because forks share groups and tails.

This module knows nothing of tokens, or of which rows there are.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from foredraft_engine.cache.online_softmax import OnlineSoftmax, Scoring
from foredraft_engine.cache.quantizers import Parts, quantizer
from foredraft_engine.cache.visibility import Visibility
from foredraft_engine.cache_spec import CacheSpec

# The positions that are dequantized at once. Layers are read one after another, so that this takes
# little memory beside the cache itself.
PIECE_POSITIONS = 256


@dataclass(slots=True)
class _Layer:
    """A row's share of one layer.

    It holds quantized groups from position 0 on, and an exact tail, which overlaps with the last
    groups.
    """

    keys: Tensor  # of the tail, [tail, kv heads, size]
    values: Tensor
    first: int = 0  # the first position of the tail
    groups: list[tuple[Parts, Parts]] = field(default_factory=list)  # keys and values


class QuantizedRow:
    """The keys and values of one sequence in all layers."""

    def __init__(self, spec: CacheSpec) -> None:
        self.spec = spec
        self._quantizer = quantizer(spec.backend, spec.nbits)
        self._layers: dict[int, _Layer] = {}

    def fork(self, length: int) -> "QuantizedRow":
        """Returns a row with the first `length` positions of this one, without copying them."""
        row = QuantizedRow(self.spec)
        for index, layer in self._layers.items():
            groups = layer.groups[: length // self.spec.q_group_size]
            tail = max(0, length - layer.first)
            row._layers[index] = _Layer(layer.keys[:tail], layer.values[:tail], layer.first, groups)
        return row

    def write(self, index: int, seen: Visibility, keys: Tensor, values: Tensor) -> None:
        """Writes new positions to a layer; those that it holds from their first on are dropped.

        Args:
            index: the layer.
            seen: what the new positions read.
            keys, values: [kv heads, tokens, size].

        Raises:
            ValueError: the first new position reads exact keys that are stored only quantized.
        """
        size, start = self.spec.q_group_size, seen.start
        keys, values = keys.transpose(0, 1), values.transpose(0, 1)
        layer = self._layers.get(index)
        if layer is None or start == 0:
            layer = self._layers[index] = _Layer(keys[:0], values[:0])
        kept = self.spec.groups_seen(start) * size
        if not layer.first <= kept <= start <= layer.first + len(layer.keys):
            raise ValueError(
                f"start: the quantized row cannot go on at position {start}, because its exact "
                f"keys begin at {layer.first} and end at {layer.first + len(layer.keys)}; feed the "
                "sequence again from position 0"
            )
        del layer.groups[start // size :]  # these hold rejected tokens
        tail = start - layer.first
        layer.keys = torch.cat([layer.keys[:tail], keys])
        layer.values = torch.cat([layer.values[:tail], values])
        for at in range(len(layer.groups), seen.any_groups):
            new = slice(at * size - layer.first, (at + 1) * size - layer.first)
            key = self._quantizer.quantize(layer.keys[new], self.spec.axis_key)
            layer.groups.append(
                (key, self._quantizer.quantize(layer.values[new], self.spec.axis_value))
            )
        if gone := kept - layer.first:
            # Cloned, because a view would keep the memory of what is gone.
            layer.keys, layer.values = layer.keys[gone:].clone(), layer.values[gone:].clone()
            layer.first = kept

    def attend(
        self,
        index: int,
        seen: Visibility,
        query: Tensor,
        scoring: Scoring,
    ) -> Tensor:
        """Computes the attention of queries in a layer, piece by piece.

        Args:
            index: the layer.
            seen: what the queries read.
            query: [kv heads, query heads of each * tokens, size].
            scoring: how queries score keys.

        Returns:
            [kv heads, query heads of each * tokens, value size].
        """
        layer, size = self._layers[index], self.spec.q_group_size
        softmax = OnlineSoftmax(query, scoring)
        # The tail comes first: every query reads itself there, so its largest score is finite.
        softmax.add(softmax.scores(layer.keys), layer.values, seen.hidden_exact(layer.first))
        groups = layer.groups[: seen.any_groups]
        step = max(1, PIECE_POSITIONS // size)
        shapes = [torch.Size((size, *states.shape[1:])) for states in (layer.keys, layer.values)]
        for at in range(seen.first // size, len(groups), step):
            piece = groups[at : at + step]
            first, last = at * size, (at + len(piece)) * size
            hidden = seen.hidden_quantized(first, last, seen.all_groups * size)
            # Keys are freed before values are read, which halves the memory.
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
        """The bytes of all storages that the row's tensors use."""
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
