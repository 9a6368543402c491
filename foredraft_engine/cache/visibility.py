"""Which places the queries of a pass read in a quantized row, and in which form.

This module knows nothing of keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft_engine.cache_spec import CacheSpec


@dataclass(frozen=True, slots=True)
class Visibility:
    """What the queries of one pass over a quantized row read.

    A place is a position, except for alternatives at the end.
    """

    start: int
    """The place of the first query."""
    end: int
    """One past the last place in use."""
    limits: Tensor
    """The place before which each query reads quantized keys, and from which on it reads exact
    ones, int64 [tokens].
    """
    all_groups: int
    """The number of groups that every query reads quantized."""
    any_groups: int
    """The number of groups that some query reads quantized."""
    hidden: Tensor
    """The places that a query does not read in any form, bool [tokens, end]."""
    first: int
    """The first place that any query reads; earlier ones have left the attention window."""
    reads_all: bool
    """Whether every query reads all places before the first query."""
    places: Tensor
    """The numbers 0 to end - 1, int64 [end]."""

    @staticmethod
    def of(
        spec: CacheSpec, hidden: Tensor, positions: Sequence[int], window: int | None
    ) -> "Visibility":
        """Returns the visibility of a pass.

        Args:
            spec: how the row is quantized.
            hidden: the places hidden by causality, window and branches, bool [tokens, end].
            positions: the positions of the queries, the earliest first.
            window: the length of the attention window; None if there is none.
        """
        groups = [spec.groups_seen(position) for position in positions]
        limits = torch.tensor(groups, device=hidden.device) * spec.q_group_size
        start, end = positions[0], hidden.shape[-1]
        first = max(0, start + 1 - window) if window else 0
        places = torch.arange(end, device=hidden.device)
        reads_all = window is None or end <= window
        return Visibility(
            start, end, limits, min(groups), max(groups), hidden, first, reads_all, places
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it holds, which serve all layers."""
        return self.limits, self.hidden, self.places

    def hidden_exact(self, first: int) -> Tensor:
        """Returns which places from `first` on are not read exactly, bool [tokens, end - first]."""
        return self.hidden[:, first:] | (self.places[first:] < self.limits[:, None])

    def hidden_quantized(self, first: int, last: int, by_all: int) -> Tensor | None:
        """Returns which places from `first` to `last` are not read quantized.

        Args:
            by_all: the place before which every query reads quantized keys.

        Returns:
            bool [tokens, last - first]; None if every query reads all of them.
        """
        if last <= by_all and self.reads_all:
            return None
        return self.hidden[:, first:last] | (self.places[first:last] >= self.limits[:, None])
