"""Green-list watermarks: which part of the vocabulary is preferred after a context, and its bias.

The semantics are those of transformers' `WatermarkLogitsProcessor`, with one difference: lists are
always drawn by a generator on the CPU, so that target, draft and detector agree on any device.

This module knows nothing of proposals.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from foredraft_engine.sampling import Greenlist

_TABLE_SIZE = 1_000_003  # this and the next two are those of transformers
_CANDIDATES = 40
_SEEDS = 2**64 - 1


def green(watermark: Greenlist, context: Sequence[int]) -> frozenset[int]:
    """Returns the green ids after a context.

    Under "selfhash" the context ends with the token that is tested.
    """
    return _after(watermark, context)[1]


def preferred(watermark: Greenlist, context: Sequence[int], scores: Tensor) -> Tensor:
    """Adds the bias to the scores of the green tokens after a context; scores float32 [vocab]."""
    if len(context) < watermark.context_width:
        return scores  # too short to derive a seed from, as in transformers
    scores = scores.clone()
    ids = (
        _by_candidates(watermark, context, scores)
        if watermark.seeding_scheme == "selfhash"
        else _after(watermark, context)[0]
    )
    scores[ids[ids < len(scores)].to(scores.device)] += (
        watermark.bias
    )  # a draft may have fewer ids of padding
    return scores


def _after(watermark: Greenlist, context: Sequence[int]) -> tuple[Tensor, frozenset[int]]:
    """Returns the green list after a context, as a tensor and as a set."""
    size = int(watermark.vocabulary_size * watermark.greenlist_ratio)
    return _drawn(watermark.vocabulary_size, size, _seed(watermark, context))


def _by_candidates(watermark: Greenlist, context: Sequence[int], scores: Tensor) -> Tensor:
    """Returns the likely tokens that are green on the list that they themselves select."""
    best = scores.sort(descending=True).indices[:_CANDIDATES].tolist()
    tail = list(context[-watermark.context_width :])
    return torch.tensor(
        [token for token in best if token in green(watermark, [*tail, token])], dtype=torch.long
    )


def _seed(watermark: Greenlist, context: Sequence[int]) -> int:
    if watermark.seeding_scheme == "lefthash":
        return watermark.hashing_key * context[-1] % _SEEDS
    table, ids = _table(watermark.hashing_key), torch.tensor(context[-watermark.context_width :])
    seeds = (
        watermark.hashing_key * (table[ids % _TABLE_SIZE] + 1) * (table[ids[-1] % _TABLE_SIZE] + 1)
    )
    return int(seeds.min().item()) % _SEEDS


@lru_cache(maxsize=4)
def _table(hashing_key: int) -> Tensor:
    return torch.randperm(_TABLE_SIZE, generator=torch.Generator().manual_seed(hashing_key))


@lru_cache(maxsize=256)
def _drawn(vocabulary_size: int, size: int, seed: int) -> tuple[Tensor, frozenset[int]]:
    ids = torch.randperm(vocabulary_size, generator=torch.Generator().manual_seed(seed))[:size]
    return ids, frozenset(ids.tolist())
