"""Attention over a sequence that is read in pieces (online softmax: arXiv 1805.02867).

This module knows nothing of rows, or of how keys are stored.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scoring:
    """How products of queries and keys become the weights of values."""

    scale: float
    softcap: float | None = None
    """Bounds the scores by a tanh."""
    sinks: Tensor | None = None
    """The score of a place without a value, for each query, [heads, n, 1]."""


class OnlineSoftmax:
    """The weighted sum of the values so far, relative to the largest score so far."""

    def __init__(self, query: Tensor, scoring: Scoring) -> None:
        """
        Args:
            query: [heads, n, size].
            scoring: how queries score keys.
        """
        self._query, self._softcap = query * scoring.scale, scoring.softcap
        # float32: the largest score and the sum of weights, [heads, n, 1]; the sum, [.., size]
        self._largest = self._weight = self._sum = torch.empty(0)
        if scoring.sinks is not None:
            self._largest = scoring.sinks.float()
            self._weight = torch.ones_like(self._largest)
            self._sum = torch.zeros_like(self._largest)

    def scores(self, keys: Tensor) -> Tensor:
        """Returns the scores of keys [positions, heads, size], float32 [heads, n, positions]."""
        return (self._query @ keys.permute(1, 2, 0)).float()

    def add(self, scores: Tensor, values: Tensor, hidden: Tensor | None) -> None:
        """Adds one piece. Each query reads at least one position of the first piece.

        Args:
            scores: float32 [heads, n, positions]; they are overwritten.
            values: [positions, heads, size].
            hidden: positions that a token does not read, bool [tokens, positions]; n is a multiple
                of the tokens.
        """
        if self._softcap is not None:
            scores = scores.div_(self._softcap).tanh_().mul_(self._softcap)
        if hidden is not None:
            # n counts query heads * tokens, and one mask serves all heads.
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
        """Returns the attention, float32 [heads, n, size]."""
        return self._sum / self._weight
