"""Random numbers that are hashes of a key.

Each random number is a SplitMix64 hash of its seed, purpose, sequence and position. Equal keys give
equal bits on every device, and different keys give independent numbers. There is no generator with
a state that a batch, a rollback or a lost draft could disturb.

SplitMix64 (Steele, Lea, Flood 2014) is integer arithmetic modulo 2**64, which torch's int64
performs alike on every device.

This module knows nothing of models, or of the rules that use the numbers.
"""

from collections.abc import Collection, Sequence
from enum import IntEnum

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Purpose(IntEnum):
    """What a random number decides. Two purposes never share a number.

    The target's accept and recovery draws must be independent of the draft's draws: noise that both
    share biases the rejection rule.
    """

    COUPLED = 1  # the token at a position, on draft and target alike, under the coupled rule only
    ACCEPT = 2  # on the target: whether a proposed token is accepted
    RECOVER = 3  # on the target: the recovered or bonus token
    DRAFT = 4  # on the draft: its samples under the rejection rule
    BEAM = 5  # which beams go on, and with which token


def key(seed: int, *parts: int) -> int:
    """Hashes a seed and any number of parts to one 64-bit key, a signed integer."""
    state = _mix(seed & _MASK)
    for part in parts:
        state = _mix(state + (part + 1) * _GOLDEN & _MASK)
    return _signed(state)


def uniform(keys: Tensor, width: int) -> Tensor:
    """Returns uniform random numbers in (0, 1) for each key.

    Args:
        keys: int64 [n].
        width: the numbers for each key.

    Returns:
        float64 [n, width]; entry (i, j) depends on keys[i] and j alone.
    """
    index = torch.arange(1, width + 1, dtype=torch.int64, device=keys.device)
    bits = _mix_tensor(keys[:, None] + index[None, :] * _signed(_GOLDEN))
    # 52 bits and half a step are never 0 and never 1, and are exact in float64 on every device.
    return ((bits >> 12) & ((1 << 52) - 1)).to(torch.float64).add_(0.5).mul_(2.0**-52)


def gumbel(keys: Tensor, width: int) -> Tensor:
    """Returns standard Gumbel noise for each key, float64 [n, width].

    argmax(log p + noise) is a sample of p.
    """
    return uniform(keys, width).log_().neg_().log_().neg_()


class KeptGumbel:
    """The Gumbel noise of one sequence's latest positions.

    A position that is scored again after a rejection finds its row of noise here.
    """

    def __init__(self, limit: int = 32) -> None:
        """Keeps at most `limit` rows, each as wide as the vocabulary."""
        self._rows: dict[int, Tensor] = {}
        self._limit = limit

    def get(self, key: int) -> Tensor | None:
        """Returns the row of a key, float64 [vocab], if it is kept."""
        return self._rows.get(key)

    def keep(self, key: int, row: Tensor) -> None:
        """Keeps a row of noise, in place of the oldest if there are too many."""
        self._rows[key] = row
        if len(self._rows) > self._limit:
            del self._rows[next(iter(self._rows))]

    def forget_all_but(self, keys: Collection[int]) -> None:
        """Forgets the rows of all other keys."""
        self._rows = {key: row for key, row in self._rows.items() if key in keys}


class WantedGumbel:
    """The Gumbel noise of keys of several sequences, of which some rows are kept."""

    def __init__(self, wanted: Sequence[tuple[KeptGumbel, int]]) -> None:
        """
        Args:
            wanted: the sequences and the keys.
        """
        self._keys = [key for _, key in wanted]
        self._noises = list({id(noise): noise for noise, _ in wanted}.values())
        # What is kept now may no longer be kept when it is used.
        kept = {key: (noise, noise.get(key)) for noise, key in wanted}
        self._found = {key: row for key, (_, row) in kept.items() if row is not None}
        self._owners = {key: noise for key, (noise, row) in kept.items() if row is None}

    @property
    def missing(self) -> list[int]:
        """The keys whose rows are not kept."""
        return list(self._owners)

    def rows(self, missing: Tensor, width: int, forgets: bool = False) -> Tensor:
        """Returns the noise, float64 [n, width].

        Args:
            missing: the missing keys, int64; their rows are computed together.
            width: the vocabulary.
            forgets: whether rows of these sequences that are not wanted now are forgotten.
        """
        found = dict(self._found)
        if self._owners:
            for (key, noise), row in zip(self._owners.items(), gumbel(missing, width), strict=True):
                found[key] = row
                noise.keep(key, row)
        if forgets:
            for noise in self._noises:
                noise.forget_all_but(found)
        return torch.stack([found[key] for key in self._keys])


def _mix(value: int) -> int:
    value = (value ^ value >> 30) * _MIX_1 & _MASK
    value = (value ^ value >> 27) * _MIX_2 & _MASK
    return value ^ value >> 31


def _mix_tensor(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _signed(_MIX_1)
    value = (value ^ _shift(value, 27)) * _signed(_MIX_2)
    return value ^ _shift(value, 31)


def _shift(value: Tensor, by: int) -> Tensor:
    # torch's shift of int64 is arithmetic; the mask makes it the logical shift of the algorithm.
    return (value >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
