"""The masks of grammars for a batch of texts, which move together with other numbers.

This module knows nothing of grammars: texts have their own.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.grammar import GrammarText
from foredraft_engine.transfer import HostArray

_WORD = 32


class GrammarMasks:
    """The masks of those rows of a batch that are held to a grammar."""

    def __init__(self, texts: Sequence[tuple[GrammarText | None, Sequence[int], int]]) -> None:
        """
        Args:
            texts: for each sequence its grammar, if it has one, its generated tokens up to the last
                scored position, and the number of its scored positions.
        """
        rows: list[int] = []
        masks: list[HostArray] = []
        row = 0
        for held, text, count in texts:
            if held:
                rows += range(row, row + count)
                masks.append(held.masks(text, count))
            row += count
        self.arrays: list[HostArray] = []
        """The rows with a mask, int64 [n], and the masks, int32 [n, words]; nothing without any."""
        if rows:
            self.arrays = [np.array(rows, dtype=np.int64), np.concatenate(masks)]

    def apply(self, scores: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Returns scores in which banned tokens are -inf.

        Args:
            scores: float32 [n, vocab].
            tensors: `arrays` on the device.
        """
        if not self.arrays:
            return scores
        rows, masks = tensors
        bits = masks[:, :, None] >> torch.arange(_WORD, dtype=torch.int32, device=masks.device)
        allowed = (bits & 1).bool().flatten(1)[:, : scores.shape[1]]  # [n, at most vocab]
        # Ids of padding have no bit.
        missing = scores.shape[1] - allowed.shape[1]
        allowed = torch.nn.functional.pad(allowed, (0, missing))
        return scores.index_copy(
            0, rows, scores.index_select(0, rows).masked_fill(~allowed, float("-inf"))
        )
