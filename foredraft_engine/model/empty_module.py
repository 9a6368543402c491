"""Lets a module of tensors without data be made without torch's compiler.

transformers makes such a module, on torch's device "meta", before it loads the weights. What torch
computes of such tensors in Python imports its compiler first, which takes half a second.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, ops
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_RANDOM = (ops.aten.normal_, ops.aten.uniform_)
_SMALL = 1 << 20
"""The largest number of elements that are computed for the shape of what becomes of them."""


class EmptyModule(TorchDispatchMode):
    """Computes on the CPU what torch would compute in Python: the shapes and data types of small
    tensors. Random numbers, for which a tensor without data has no place, are not drawn.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to leave this class out of its compiler torch would import it

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given, operation = dict(kwargs or {}), function.overloadpacket
        tensors = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        if not all(tensor.is_meta for tensor in tensors):
            return function(*args, **given)
        if operation in _RANDOM:
            return args[0]
        if operation is ops.aten.empty_like:
            return _like(args[0], **given)
        if operation is ops.aten.arange and str(given.get("device")) == "meta":
            return _like(function(*args, **given | {"device": "cpu"}), device="meta")
        if _is_pointwise(function, tensors):
            args, given = tree_map(_on_cpu, (args, given))
            return _like(function(*args, **given), device="meta")
        return function(*args, **given)


def _is_pointwise(function: Any, tensors: Sequence[Tensor]) -> bool:
    """Whether a function makes one new tensor from few elements of others, one by one."""
    few = 0 < sum(tensor.numel() for tensor in tensors) <= _SMALL
    is_new = len(function._schema.returns) == 1 and not function._schema.is_mutable
    return few and is_new and torch.Tag.pointwise in function.tags


def _like(tensor: Tensor, device: Any = None, dtype: Any = None, **_: Any) -> Tensor:
    """Returns a tensor of the same shape and strides, and of any contents."""
    return torch.empty_strided(
        tensor.shape,
        tensor.stride(),
        dtype=dtype or tensor.dtype,
        device=device or tensor.device,
    )


def _on_cpu(leaf: Any) -> Any:
    """Returns a tensor that has data in the place of one without, and all else as it is."""
    return torch.ones(leaf.shape, dtype=leaf.dtype) if isinstance(leaf, Tensor) else leaf
