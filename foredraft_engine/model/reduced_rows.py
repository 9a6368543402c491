"""Rows of a draft that knows only some tokens, for texts of all the tokens of its target.

Feeds hold the target's ids, and logits have a place for each of them, so that nothing outside these
rows knows of the model's own ids: processors, random numbers and rows of q are those of the target.
A token that the model does not know has no probability.

This module knows nothing of how a model computes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass, Unread
from foredraft_engine.model.draft_vocabulary import DraftVocabulary
from foredraft_engine.model.rows import Rows


class ReducedRows:
    """Rows that translate between the target's ids and the model's own."""

    def __init__(self, rows: Rows, vocabulary: DraftVocabulary) -> None:
        """
        Args:
            rows: rows of the model's own ids.
            vocabulary: which tokens the model knows.
        """
        self._rows, self._known = rows, len(vocabulary.target_ids)
        self._own_ids: list[int] = vocabulary.own_ids.tolist()
        self._own_places = torch.tensor(self._own_ids, device=rows.device)
        self.layout, self.count, self.capacity = rows.layout, rows.count, rows.capacity
        self.device, self.spare = rows.device, rows.spare
        self.branches, self.quantizes = rows.branches, rows.quantizes
        self.runs_ahead = rows.runs_ahead

    @property
    def hidden(self) -> Tensor:
        return self._rows.hidden

    def lend(self, row: int) -> None:
        self._rows.lend(row)

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        return self._spread(self._rows.forward([self._own(feed) for feed in feeds], scored))

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        prepared = self._rows.prepare([self._own(feed) for feed in feeds], scored)
        return replace(prepared, run=partial(self._run, prepared))

    def _run(self, prepared: ForwardPass, tensors: Sequence[Tensor], ids: Tensor | None) -> Tensor:
        own = None if ids is None else self._own_places[ids]
        return self._spread(prepared.run(tensors, own))

    def _own(self, feed: Feed) -> Feed:
        """Returns a feed of the model's own ids; unread ids stay as they are."""
        if isinstance(feed.ids, Unread):
            return feed
        return replace(feed, ids=[self._own_ids[i] for i in feed.ids])

    def _spread(self, logits: Tensor) -> Tensor:
        """Returns logits of the target's ids, [n, vocab]; -inf for those that are not known."""
        logits[:, self._known :] = float("-inf")
        return logits.index_select(1, self._own_places)

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        self._rows.copy_row(source, target, length, start)

    def row_bytes(self, row: int) -> int:
        return self._rows.row_bytes(row)
