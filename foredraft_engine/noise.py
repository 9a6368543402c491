"""Random numbers as a function of what they are for.

Every draw is addressed by a key: the seed, the sequence, the side that draws, the purpose and the
place in the text. Equal keys give equal bits on every device, different keys give independent
numbers; no generator has a state that a batch, a rollback or a lost draft could disturb.

The generator is SplitMix64 (Steele, Lea, Flood 2014): integer arithmetic modulo 2**64, which
torch's int64 performs alike on every device. Knows nothing of models or of the rules that use the
numbers.
"""

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Purpose(IntEnum):
    """What a number decides. Two purposes never share a stream.

    Accept and recovery draws of the target must be independent of the draft's draws: shared noise
    under the p/q rule is biased.
    """

    COUPLED = 1  # shared by draft and target, used by the equality rule only
    ACCEPT = 2  # target: accept a proposed token or not
    RECOVER = 3  # target: the token after the accepted ones
    DRAFT = 4  # draft: its own samples
    BEAM = 5  # which beams go on, and with which token


def key(seed: int, *parts: int) -> int:
    """Folds a seed and any number of parts into one 64-bit key, as a signed integer."""
    state = _mix(seed & _MASK)
    for part in parts:
        state = _mix(state + (part + 1) * _GOLDEN & _MASK)
    return _signed(state)


def uniform(keys: Tensor, width: int) -> Tensor:
    """Uniform numbers in (0, 1) for each key.

    Args:
        keys: int64 [n].
        width: numbers wanted for each key.

    Returns:
        float64 [n, width]; entry (i, j) depends on keys[i] and j alone.
    """
    index = torch.arange(1, width + 1, dtype=torch.int64, device=keys.device)
    bits = _mix_tensor(keys[:, None] + index[None, :] * _signed(_GOLDEN))
    # 52 bits and a half step: never 0, never 1, exact in float64 on every device.
    return ((bits >> 12) & ((1 << 52) - 1)).to(torch.float64).add_(0.5).mul_(2.0**-52)


def gumbel(keys: Tensor, width: int) -> Tensor:
    """Standard Gumbel noise, float64 [n, width]: argmax(log p + gumbel) is a sample of p."""
    return uniform(keys, width).log_().neg_().log_().neg_()


class KeptGumbel:
    """The shared noise of one sequence, a row for each position, computed once.

    A position that is scored again after a rejection finds its row here.
    """

    def __init__(self, limit: int = 32) -> None:
        """limit: rows kept; a row is as wide as the vocabulary."""
        self._rows: dict[int, Tensor] = {}
        self._limit = limit

    @staticmethod
    def rows(
        wanted: Sequence[tuple["KeptGumbel", int]], width: int, device: torch.device
    ) -> Tensor:
        """The rows of these keys, float64 [n, width], those that are missing computed together."""
        missing = {key: kept for kept, key in wanted if key not in kept._rows}
        found = {key: kept._rows[key] for kept, key in wanted if key in kept._rows}
        if missing:
            made = gumbel(torch.tensor(list(missing), device=device), width)
            for (key, kept), row in zip(missing.items(), made, strict=True):
                found[key] = kept._rows[key] = row
                if len(kept._rows) > kept._limit:
                    del kept._rows[next(iter(kept._rows))]
        return torch.stack([found[key] for _, key in wanted])


def _mix(value: int) -> int:
    value = (value ^ value >> 30) * _MIX_1 & _MASK
    value = (value ^ value >> 27) * _MIX_2 & _MASK
    return value ^ value >> 31


def _mix_tensor(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _signed(_MIX_1)
    value = (value ^ _shift(value, 27)) * _signed(_MIX_2)
    return value ^ _shift(value, 31)


def _shift(value: Tensor, by: int) -> Tensor:
    # torch shifts int64 arithmetically; the mask makes it the logical shift of the algorithm.
    return (value >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
