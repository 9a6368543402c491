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
_KEPT = 256  # lists of one text


class GreenLists:
    """The green lists of one text, of which the last ones are kept: contexts repeat.

    Texts share none: the time that a list takes would tell a caller what is in another's text.
    """

    def __init__(self, watermark: Greenlist) -> None:
        self._watermark, self.context_width = watermark, watermark.context_width
        self._drawn: dict[int, tuple[Tensor, frozenset[int]]] = {}

    def green(self, context: Sequence[int]) -> frozenset[int]:
        """Returns the green ids after a context.

        Under "selfhash" the context ends with the token that is tested.
        """
        return self._after(context)[1]

    def preferred(self, context: Sequence[int], scores: Tensor) -> Tensor:
        """Adds the bias to the scores of the green tokens after a context, float32 [vocab]."""
        watermark = self._watermark
        if len(context) < watermark.context_width:
            return scores  # too short to derive a seed from, as in transformers
        scores = scores.clone()
        if watermark.seeding_scheme == "selfhash":
            ids = self._by_candidates(context, scores)
        else:
            ids = self._after(context)[0]
        # A draft may have fewer ids of padding.
        scores[ids[ids < len(scores)].to(scores.device)] += watermark.bias
        return scores

    def _by_candidates(self, context: Sequence[int], scores: Tensor) -> Tensor:
        """Returns the likely tokens that are green on the list that they themselves select."""
        best = scores.sort(descending=True).indices[:_CANDIDATES].tolist()
        tail = list(context[-self._watermark.context_width :])
        return torch.tensor(
            [token for token in best if token in self.green([*tail, token])], dtype=torch.long
        )

    def _after(self, context: Sequence[int]) -> tuple[Tensor, frozenset[int]]:
        """Returns the green list after a context, as a tensor and as a set."""
        seed = _seed(self._watermark, context)
        if (kept := self._drawn.pop(seed, None)) is None:
            kept = _draw(self._watermark, seed)
        self._drawn[seed] = kept  # the last one that is to go
        if len(self._drawn) > _KEPT:
            del self._drawn[next(iter(self._drawn))]
        return kept


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


def _draw(watermark: Greenlist, seed: int) -> tuple[Tensor, frozenset[int]]:
    size = int(watermark.vocabulary_size * watermark.greenlist_ratio)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randperm(watermark.vocabulary_size, generator=generator)[:size]
    return ids, frozenset(ids.tolist())
