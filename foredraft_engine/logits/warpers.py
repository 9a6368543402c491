"""Temperature, top-k, top-p and min-p for a whole batch, each row with its own parameters.

Nearly every sampled token goes through these four, and transformers' classes take one parameter for
a whole batch; here the parameters are tensors. The semantics are those of transformers' classes
(ties, and that at least one token stays), and a test compares them. Greedy rows pass through
unchanged, as do rows of requests with a rare warper, which `Processors` handles.

This module knows nothing of tokens: a warper is a function of the logits alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft_engine.sampling import Sampling

_REMOVED = float("-inf")


def has_rare_warpers(s: Sampling) -> bool:
    """Returns whether a request needs a warper other than the four, or a parameter they lack."""
    cut_by_likelihood = (
        s.typical_p < 1.0 or 0.0 < s.epsilon_cutoff < 1.0 or 0.0 < s.eta_cutoff < 1.0
    )
    return s.is_sampled and (s.min_tokens_to_keep > 1 or s.top_h is not None or cut_by_likelihood)


def warp(rows: Sequence[Sampling], scores: Tensor) -> Tensor:
    """Applies the four warpers, in transformers' order.

    Args:
        rows: the sampling parameters of each row.
        scores: float32 [n, vocab].

    Returns:
        Scores, float32 [n, vocab]; removed tokens are -inf.
    """
    active = [s if s.is_sampled and not has_rare_warpers(s) else None for s in rows]
    if not any(active):
        return scores
    device = scores.device
    if any(s and s.temperature != 1.0 for s in active):
        scores = scores / _column([s.temperature if s else 1.0 for s in active], device)
    if any(s and s.top_k for s in active):
        scores = _top_k([min(s.top_k, scores.shape[1]) if s else 0 for s in active], scores)
    if any(s and s.top_p < 1.0 for s in active):
        scores = _top_p([s.top_p if s else 1.0 for s in active], scores)
    if any(s and s.min_p for s in active):
        scores = _min_p(_column([s.min_p if s else 0.0 for s in active], device), scores)
    return scores


def _top_k(ks: list[int], scores: Tensor) -> Tensor:
    best = scores.topk(max(ks), dim=-1).values  # [n, max k]
    last = torch.tensor([max(k - 1, 0) for k in ks], device=scores.device)[:, None]
    floor = best.gather(1, last)
    off = torch.tensor([k == 0 for k in ks], device=scores.device)[:, None]
    return scores.masked_fill((scores < floor) & ~off, _REMOVED)


def _top_p(ps: list[float], scores: Tensor) -> Tensor:
    ordered, index = scores.sort(dim=-1)
    # 1 - p is computed in Python's float64, as in transformers, and compared with a float32 sum.
    rest = _column([1 - p for p in ps], scores.device)
    remove = ordered.softmax(dim=-1).cumsum(dim=-1) <= rest
    remove &= _column([p < 1.0 for p in ps], scores.device)
    remove[:, -1] = False
    return scores.masked_fill(remove.scatter(1, index, remove), _REMOVED)


def _min_p(min_p: Tensor, scores: Tensor) -> Tensor:
    p = scores.softmax(dim=-1)
    best, index = p.max(dim=-1, keepdim=True)
    remove = p < min_p * best
    remove.scatter_(1, index, False)
    return scores.masked_fill(remove, _REMOVED)


def _column(values: Sequence[float | bool], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None]
