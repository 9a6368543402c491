"""Rows of scores and logits on the host.

This module knows nothing of torch, or of what the rows are for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of the vocabulary at one position. The score of a missing id is -inf."""

    ids: NDArray[np.uint32] | None
    """The ids of the values, in rising order; None if there is a value for every id."""
    values: NDArray[np.float32]


def score_rows(scores: Any) -> tuple[ScoreRow, ...]:
    """Copies scores [n, vocab] to the host, as a row for each position."""
    return tuple(map(_row, scores.float().cpu().numpy()))


def _row(values: NDArray[np.float32]) -> ScoreRow:
    kept = np.flatnonzero(values > -np.inf)
    if len(kept) > len(values) // 2:
        return ScoreRow(None, values)
    return ScoreRow(kept.astype(np.uint32), values[kept])
