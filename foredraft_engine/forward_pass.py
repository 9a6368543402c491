"""A forward pass whose numbers are still on the host, and texts that only the device knows.

Several passes can be prepared at once. Their numbers then move to the device in one copy, and each
pass feeds the tokens that the one before it chose, without the host in between.

This module knows nothing of models, or of how a token is chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foredraft_engine.transfer import HostArray, to_device


class Unread(Sequence[int]):
    """Ids that the host has not read: it knows how many there are, and not which."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        raise LookupError("the host has not read these ids; only the device knows them")


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """A forward pass that is prepared. Passes over the same rows run in the order of preparing."""

    arrays: Sequence[HostArray]
    """Its numbers."""
    run: Callable[[Sequence[Tensor], Tensor | None], Tensor]
    """Runs it and returns logits, float32 [sum(scored), vocab]. The arguments are `arrays` on the
    device, and the ids of the pass, int64 [sum(fed)], if they are unread; otherwise None.
    """

    def alone(self, device: torch.device) -> Tensor:
        """Runs the pass with its own copy to the device; returns what `run` does."""
        return self.run(to_device(self.arrays, device), None)
