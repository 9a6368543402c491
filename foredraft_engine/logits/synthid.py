"""SynthID watermarks: the tournament that changes a distribution, and the g-values that reveal it.

The semantics are those of transformers' `SynthIDTextWatermarkLogitsProcessor`, without its state:
whether a context occurred before is read from the tokens, so that a rejected proposal leaves no
trace.

This module knows nothing of proposals.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from foredraft_engine.sampling import SynthId

_MULTIPLIER = 6364136223846793005  # of the linear congruential generator, as in transformers


def watermarked(watermark: SynthId, generated: Sequence[int], scores: Tensor) -> Tensor:
    """Applies the watermark to the scores of the last positions of a text.

    Args:
        generated: the tokens after the prompt, up to the last scored position.
        scores: float32 [count, vocab]; row i follows generated[: len(generated) - count + 1 + i].

    Returns:
        Scores of the same shape.
    """
    if watermark.debug_mode:
        scores = torch.ones_like(scores)
    # The hash of the context at every position.
    hashes = _context_hashes(watermark, [*[0] * (watermark.ngram_len - 1), *generated])
    first = len(generated) - len(scores) + 1
    unseen = _unseen_positions(
        watermark,
        hashes,
        range(first, len(hashes)),
        watermark.ngram_len - 1 if watermark.skip_first_ngram_calls else 0,
    )
    if not unseen:
        return scores
    scores, rows = scores.clone(), [at - first for at in unseen]
    scores[rows] = _tournament(watermark, hashes[unseen].to(scores.device), scores[rows])
    return scores


def g_values(watermark: SynthId, ids: Sequence[int]) -> Tensor:
    """Returns the g-values of all n-grams with unrepeated contexts, float32 [n-grams, depth]."""
    length = watermark.ngram_len - 1
    if len(ids) <= length:
        return torch.zeros(0, len(watermark.keys))
    hashes = _context_hashes(watermark, ids[:-1])
    grams = _accumulate(hashes, torch.tensor(ids[length:]))[
        _unseen_positions(watermark, hashes, range(len(hashes)), 0)
    ]
    table = _table(watermark, grams.device)
    return torch.stack([_g(table, grams, key) for key in watermark.keys], dim=1)


def _tournament(watermark: SynthId, contexts: Tensor, scores: Tensor) -> Tensor:
    """Runs the tournament, one layer for each key. Removed tokens stay removed.

    Args:
        contexts: the hash of each position's context, int64 [n].
        scores: float32 [n, vocab].

    Returns:
        Scores of the same shape.
    """
    alive = (scores > float("-inf")).any(dim=0).nonzero()[:, 0]
    p = scores[:, alive].softmax(dim=-1)
    grams = _accumulate(contexts[:, None], alive[None])  # [n, alive]
    table = _table(watermark, scores.device)
    for key in watermark.keys:
        g = _g(table, grams, key)
        p = p * (1 + g - (g * p).sum(dim=-1, keepdim=True))
    out = torch.full_like(scores, float("-inf"))
    out[:, alive] = p.log()
    return out


def _g(table: Tensor, grams: Tensor, key: int) -> Tensor:
    """Returns the g-value of each hashed n-gram under a key, 0 or 1."""
    return table[_accumulate(grams, key) % len(table)]


def _context_hashes(watermark: SynthId, ids: Sequence[int]) -> Tensor:
    """Returns the hash of every `ngram_len - 1` neighbours, int64 [len(ids) - ngram_len + 2]."""
    windows = torch.tensor(ids, dtype=torch.long).unfold(0, watermark.ngram_len - 1, 1)
    hashes = torch.ones(len(windows), dtype=torch.long)
    for column in windows.T:
        hashes = _accumulate(hashes, column)
    return hashes


def _unseen_positions(
    watermark: SynthId, hashes: Tensor, positions: range, first: int
) -> list[int]:
    """Returns the positions from `first` on whose context is not in the history."""
    found = []
    for at in positions:
        remembered = hashes[max(first, at - watermark.context_history_size) : at]
        # The history begins as zeros.
        empty = len(remembered) < watermark.context_history_size and hashes[at] == 0
        if at >= first and not empty and not (remembered == hashes[at]).any():
            found.append(at)
    return found


def _accumulate(hashes: Tensor, data: Tensor | int) -> Tensor:
    return (hashes + data) * _MULTIPLIER + 1


def _table(watermark: SynthId, device: torch.device) -> Tensor:
    return _bits(watermark.sampling_table_seed, watermark.sampling_table_size, device)


@lru_cache(maxsize=8)
def _bits(seed: int, size: int, device: torch.device) -> Tensor:
    bits = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed))
    return bits.float().to(device)
