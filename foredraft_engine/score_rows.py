"""Rows of scores and logits on the host. Knows nothing of torch, or of what they are for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Scores over the vocabulary at one position; ids that are left out have -inf."""

    ids: NDArray[np.uint32] | None
    """Of the values, in rising order; None where there is one for every id."""
    values: NDArray[np.float32]


def score_rows(scores: Any) -> tuple[ScoreRow, ...]:
    """From a tensor, float32 [n, vocab]."""
    return tuple(map(_row, scores.float().cpu().numpy()))


def _row(values: NDArray[np.float32]) -> ScoreRow:
    kept = np.flatnonzero(values > -np.inf)
    if len(kept) > len(values) // 2:
        return ScoreRow(None, values)
    return ScoreRow(kept.astype(np.uint32), values[kept])
