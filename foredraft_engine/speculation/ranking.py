"""Scores whose largest is the token that is chosen with certainty.

Under the coupled rule they include the noise that draft and target share, in float64, so that the
draft predicts the target's token. Under the rejection rule the target's scores include noise that
no draft knows; they are then the target's own draw at each position.

This module knows nothing of proposals, or of whether a text is committed or a branch.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from foredraft_engine.logits.processing import Scored
from foredraft_engine.noise import KeptGumbel, Purpose, WantedGumbel, key
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.transfer import HostArray

SHARED: Mapping[Rule, Purpose] = {Rule.COUPLED: Purpose.COUPLED}
"""The noise by which a draft ranks."""
OWN: Mapping[Rule, Purpose] = {**SHARED, Rule.REJECTION: Purpose.RECOVER}
"""The noise by which the target ranks."""


class Ranking:
    """The noise of the rows of a batch, whose keys move together with other numbers.

    The caller moves `arrays` and gives them to `apply` as tensors.
    """

    def __init__(self, scored: Sequence[Scored], purposes: Mapping[Rule, Purpose] = SHARED) -> None:
        """
        Args:
            scored: the sequences whose positions are ranked.
            purposes: the noise under each rule that has any.
        """
        wanted: list[tuple[KeptGumbel, int]] = []
        noisy: list[int] = []
        row = 0
        for item in scored:
            sampling, first = item.processors.sampling, len(item.tokens) - item.count + 1
            if purpose := purposes.get(sampling.rule):
                noisy += range(row, row + item.count)
                keys = [_key(sampling, purpose, first + i) for i in range(item.count)]
                wanted += [(item.processors.noise, one) for one in keys]
            row += item.count
        # The target scores a position again in the next round or never.
        self._forgets = purposes is OWN
        self._noise = WantedGumbel(wanted) if wanted else None
        self._is_mixed = 0 < len(noisy) < row
        self.arrays: list[HostArray] = []
        """The keys whose noise is not kept, and the rows that have noise if not all have."""
        if self._noise:
            self.arrays.append(np.array(self._noise.missing, dtype=np.int64))
        if self._is_mixed:
            self.arrays.append(np.array(noisy, dtype=np.int64))

    def apply(self, scores: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Returns scores with the noise, [n, vocab].

        Args:
            scores: processed scores, float32 [n, vocab].
            tensors: `arrays` on the device.
        """
        if not self._noise:
            return scores
        noise = self._noise.rows(tensors[0], scores.shape[1], self._forgets)
        if not self._is_mixed:
            return noise.add_(scores)
        return scores.double().index_add_(0, tensors[1], noise)


def _key(sampling: Sampling, purpose: Purpose, position: int) -> int:
    """Returns the key of the noise at a position."""
    return key(sampling.seed, purpose, sampling.sequence_index, position)
