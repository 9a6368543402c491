"""Temperature, top-k, top-p and min-p for a whole batch, each row with its own parameters.

Nearly every sampled token goes through these four, and transformers' classes take one parameter for
a whole batch; here the parameters are tensors. The semantics are those of transformers' classes
(ties, and that at least one token stays), and a test compares them. Greedy rows pass through
unchanged, as do rows of requests with a rare warper, which `Processors` handles.

This module knows nothing of tokens: a warper is a function of the logits alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from foredraft_engine.sampling import Sampling
from foredraft_engine.transfer import HostArray

_REMOVED = float("-inf")
_OFF = Sampling()  # which warps nothing


def has_rare_warpers(s: Sampling) -> bool:
    """Returns whether a request needs a warper other than the four, or a parameter they lack."""
    cut_by_likelihood = (
        s.typical_p < 1.0 or 0.0 < s.epsilon_cutoff < 1.0 or 0.0 < s.eta_cutoff < 1.0
    )
    return s.is_sampled and (s.min_tokens_to_keep > 1 or s.top_h is not None or cut_by_likelihood)


class Warping:
    """The four warpers for the rows of a batch, and their parameters on the host."""

    def __init__(self, rows: Sequence[Sampling], vocab: int) -> None:
        """
        Args:
            rows: the sampling parameters of each row.
            vocab: the number of scores in a row.
        """
        active = [s if s.is_sampled and not has_rare_warpers(s) else _OFF for s in rows]
        ks = [min(s.top_k, vocab) for s in active]
        self._most_k = max(ks, default=0)
        self.arrays: dict[str, HostArray] = {}
        """The parameters of each warper that some row needs, [n, 1] each, by their names."""
        if any(s.temperature != 1.0 for s in active):
            self._add("temperature", [s.temperature for s in active], np.float32)
        if self._most_k:
            self._add("top_k", ks, np.int64)
        if any(s.top_p < 1.0 for s in active):
            # 1 - p is computed in float64, as in transformers, and compared with a float32 sum.
            self._add("rest", [1 - s.top_p for s in active], np.float32)
            self._add("top_p", [s.top_p < 1.0 for s in active], np.bool_)
        if any(s.min_p for s in active):
            self._add("min_p", [s.min_p for s in active], np.float32)

    def _add(self, name: str, values: Sequence[float], dtype: type[np.generic]) -> None:
        self.arrays[name] = np.array(values, dtype=dtype)[:, None]

    def apply(self, scores: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Applies the warpers, in transformers' order.

        Args:
            scores: float32 [n, vocab].
            parameters: `arrays` on the device.

        Returns:
            Scores, float32 [n, vocab]; removed tokens are -inf.
        """
        if "temperature" in parameters:
            scores = scores / parameters["temperature"]
        if "top_k" in parameters:
            scores = _top_k(parameters["top_k"], self._most_k, scores)
        if "top_p" in parameters:
            scores = _top_p(parameters["rest"], parameters["top_p"], scores)
        if "min_p" in parameters:
            scores = _min_p(parameters["min_p"], scores)
        return scores


def _top_k(ks: Tensor, most: int, scores: Tensor) -> Tensor:
    best = scores.topk(most, dim=-1).values  # [n, most]
    floor = best.gather(1, (ks - 1).clamp(min=0))
    return scores.masked_fill((scores < floor) & (ks > 0), _REMOVED)


def _top_p(rest: Tensor, wanted: Tensor, scores: Tensor) -> Tensor:
    ordered, index = scores.sort(dim=-1)
    remove = ordered.softmax(dim=-1).cumsum(dim=-1) <= rest
    remove &= wanted
    remove[:, -1] = False
    return scores.masked_fill(remove.scatter(1, index, remove), _REMOVED)


def _min_p(min_p: Tensor, scores: Tensor) -> Tensor:
    p = scores.softmax(dim=-1)
    best, index = p.max(dim=-1, keepdim=True)
    remove = p < min_p * best
    remove.scatter_(1, index, False)
    return scores.masked_fill(remove, _REMOVED)
