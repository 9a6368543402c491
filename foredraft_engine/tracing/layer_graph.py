"""A decoder layer as one compiled function of tensors, its weights included.

This module knows nothing of how it is traced, which takes parts of torch that import slowly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.utils._pytree as pytree
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Example:
    """A tensor that a function is traced with."""

    tensor: Tensor
    sizes: Mapping[int, str]
    """The names of the sizes that differ from call to call, by dimension."""


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """A compiled function."""

    call: Callable[..., Sequence[Tensor]]
    """Takes the tensors that were traced, in their order; returns those of the output."""
    structure: Any
    """How the output is made of its tensors."""

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        """Runs the function."""
        return pytree.tree_unflatten(list(self.call(*tensors)), self.structure)
