"""The vocabulary of a draft that knows only some of its target's tokens.

The head of a small model takes most of its time, and most tokens of a large vocabulary are hardly
ever said, so that a draft does well with some thousands of them (FR-Spec, arXiv 2502.14856). Such a
model has the tokenizer of its target and, beside its weights, a table of the target's ids that it
knows. Its own id i stands for the i-th of them; the id after the last one stands, in what it reads,
for every token that it does not know.

This module knows nothing of weights or rows.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from foredraft_engine.errors import ModelError
from foredraft_engine.model.model_file import model_file

log = logging.getLogger(__name__)

FILE = "draft_vocabulary.safetensors"
"""The file of the table, in the directory of the model."""
_TENSOR = "target_ids"


@dataclass(frozen=True, slots=True)
class DraftVocabulary:
    """The tokens that a draft knows, by the ids of its target."""

    target_ids: NDArray[np.int64]
    """The known ids in rising order, [n]."""
    size: int
    """The number of ids of the target's tokenizer."""

    @property
    def own_ids(self) -> NDArray[np.int64]:
        """The model's own id of each id of the target, [size]."""
        own = np.full(self.size, len(self.target_ids), dtype=np.int64)
        own[self.target_ids] = np.arange(len(self.target_ids))
        return own

    def save(self, folder: Path) -> None:
        """Writes the table beside a model's weights."""
        save_file({_TENSOR: self.target_ids.astype(np.int32)}, folder / FILE)


def draft_vocabulary(
    name: str, revision: str | None, size: int, rows: int
) -> DraftVocabulary | None:
    """Returns the vocabulary of a draft; None if the model has no table, and knows all tokens.

    Args:
        name: the model directory or hub id.
        revision: the revision on the hub.
        size: the number of ids of its tokenizer.
        rows: the number of its own ids.

    Raises:
        ModelError: the table is not one, or is not of this model.
    """
    file = model_file(name, FILE, revision)
    if file is None:
        return None
    try:
        table = load_file(file).get(_TENSOR)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot load {FILE} of {name!r}: {error}") from error
    if wrong := _fault(table, size, rows):
        raise ModelError(f"cannot load {FILE} of {name!r}: {wrong}; use files of one model")
    assert table is not None
    log.info("%s knows %d of its target's %d tokens", name, len(table), size)
    return DraftVocabulary(table.astype(np.int64), size)


def _fault(table: NDArray[np.int64] | None, size: int, rows: int) -> str:
    """Returns what is wrong with a table; empty if nothing is."""
    if table is None or table.ndim != 1 or not len(table) or table.dtype.kind not in "iu":
        return f"it has no list of ids {_TENSOR!r}"
    ids = table.astype(np.int64)
    if ids[0] < 0 or ids[-1] >= size or (np.diff(ids) <= 0).any():
        return f"{_TENSOR} does not rise within the {size} ids of the tokenizer"
    if len(ids) + 1 > rows:
        return (
            f"it lists {len(ids)} ids, and the model has {rows} rows: one for each, and one more "
            "for all other tokens, are needed"
        )
    return ""
