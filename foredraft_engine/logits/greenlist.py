"""Green lists: which part of the vocabulary a context prefers, and what that adds to the scores.

The semantics are transformers' (`WatermarkLogitsProcessor`), but that lists are always drawn by the
generator of the CPU: target, draft and detector agree, whatever they run on. Knows nothing of
proposals.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from foredraft_engine.sampling import Greenlist

_TABLE_SIZE = 1_000_003  # transformers' own, as the two below
_CANDIDATES = 40
_SEEDS = 2**64 - 1


def green(mark: Greenlist, context: Sequence[int]) -> frozenset[int]:
    """The green ids after a context;

    under "selfhash" the context ends with the token that is asked about.
    """
    return _after(mark, context)[1]


def preferred(mark: Greenlist, context: Sequence[int], scores: Tensor) -> Tensor:
    """Scores float32 [vocab] of the token after a context, with the bias on the green ones."""
    if len(context) < mark.context_width:
        return scores  # as in transformers: too little to seed by
    scores = scores.clone()
    ids = (
        _by_candidates(mark, context, scores)
        if mark.seeding_scheme == "selfhash"
        else _after(mark, context)[0]
    )
    scores[ids[ids < len(scores)].to(scores.device)] += (
        mark.bias
    )  # a draft may have fewer ids of padding
    return scores


def _after(mark: Greenlist, context: Sequence[int]) -> tuple[Tensor, frozenset[int]]:
    """The list, in both forms."""
    size = int(mark.vocabulary_size * mark.greenlist_ratio)
    return _drawn(mark.vocabulary_size, size, _seed(mark, context))


def _by_candidates(mark: Greenlist, context: Sequence[int], scores: Tensor) -> Tensor:
    """The likely tokens that are green by their own list."""
    best = scores.sort(descending=True).indices[:_CANDIDATES].tolist()
    tail = list(context[-mark.context_width :])
    return torch.tensor(
        [token for token in best if token in green(mark, [*tail, token])], dtype=torch.long
    )


def _seed(mark: Greenlist, context: Sequence[int]) -> int:
    if mark.seeding_scheme == "lefthash":
        return mark.hashing_key * context[-1] % _SEEDS
    table, ids = _table(mark.hashing_key), torch.tensor(context[-mark.context_width :])
    seeds = mark.hashing_key * (table[ids % _TABLE_SIZE] + 1) * (table[ids[-1] % _TABLE_SIZE] + 1)
    return int(seeds.min().item()) % _SEEDS


@lru_cache(maxsize=4)
def _table(hashing_key: int) -> Tensor:
    return torch.randperm(_TABLE_SIZE, generator=torch.Generator().manual_seed(hashing_key))


@lru_cache(maxsize=256)
def _drawn(vocabulary_size: int, size: int, seed: int) -> tuple[Tensor, frozenset[int]]:
    ids = torch.randperm(vocabulary_size, generator=torch.Generator().manual_seed(seed))[:size]
    return ids, frozenset(ids.tolist())
