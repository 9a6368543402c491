"""Scores whose largest is the token that is chosen with certainty.

Under the coupled rule they include the noise that draft and target share, in float64, so that the
draft predicts the target's token.

This module knows nothing of proposals, or of whether a text is committed or a branch.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from foredraft_engine.logits.processing import Scored
from foredraft_engine.noise import KeptGumbel, Purpose, key
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.transfer import HostArray


class Ranking:
    """The shared noise of the rows of a batch, whose keys move together with other numbers.

    The caller moves `arrays` and gives them to `apply` as tensors.
    """

    def __init__(self, scored: Sequence[Scored]) -> None:
        """
        Args:
            scored: the sequences whose positions are ranked.
        """
        wanted: list[tuple[KeptGumbel, int]] = []
        coupled: list[int] = []
        row = 0
        for item in scored:
            sampling, first = item.processors.sampling, len(item.tokens) - item.count + 1
            if sampling.rule is Rule.COUPLED:
                coupled += range(row, row + item.count)
                keys = [_key(sampling, first + i) for i in range(item.count)]
                wanted += [(item.processors.noise, one) for one in keys]
            row += item.count
        self._wanted, self._is_mixed = wanted, 0 < len(coupled) < row
        self.arrays: list[HostArray] = []
        """The keys whose noise is not kept, and the rows that have noise if not all have."""
        if coupled:
            self.arrays.append(np.array(KeptGumbel.missing(wanted), dtype=np.int64))
        if self._is_mixed:
            self.arrays.append(np.array(coupled, dtype=np.int64))

    def apply(self, scores: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Returns scores with the shared noise, [n, vocab].

        Args:
            scores: processed scores, float32 [n, vocab].
            tensors: `arrays` on the device.
        """
        if not self._wanted:
            return scores
        noise = KeptGumbel.rows(self._wanted, tensors[0], scores.shape[1])
        if not self._is_mixed:
            return noise.add_(scores)
        return scores.double().index_add_(0, tensors[1], noise)


def _key(sampling: Sampling, position: int) -> int:
    """Returns the key of the noise at a position."""
    return key(sampling.seed, Purpose.COUPLED, sampling.sequence_index, position)
