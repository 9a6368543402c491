"""A device that pretends: its tensors say that they are on an accelerator, and compute on the CPU.

An operation that mixes its tensors with others is refused, as CUDA refuses it, and what host and
device say to each other is counted: kernels, copies to the device, and waits for it, each with the
line that made it. So a test without an accelerator shows how often a step speaks to one.
"""

import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
_CPU = torch.device("cpu")
# Another view of the same memory, or memory alone: no kernel runs.
_VIEWS = ["view", "_unsafe_view", "slice", "select", "expand", "unsqueeze", "squeeze", "transpose"]
_MORE_VIEWS = ["t", "permute", "as_strided", "split", "split_with_sizes", "unbind", "detach"]
_MEMORY = ["alias", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty"]
NO_KERNELS = frozenset([*_VIEWS, *_MORE_VIEWS, *_MEMORY])
_WAITS = frozenset(["_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero"])
_INDEXING = frozenset(["index", "index_put", "index_put_", "_index_put_impl_"])


@dataclass
class Traffic:
    """What host and device said to each other, by operation or by the line that made it."""

    kernels: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    operations: list[tuple[str, tuple[tuple[int, ...], ...]]] = field(default_factory=list)
    """The operations in order, with the shapes of their tensors."""


class PretendedTensor(Tensor):
    """A tensor of the device; `held` is the tensor that it stands for."""

    held: Tensor
    traffic: Traffic

    @staticmethod
    def of(held: Tensor, traffic: Traffic) -> "PretendedTensor":
        made = torch.Tensor._make_wrapper_subclass(
            PretendedTensor,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held, made.traffic = held, traffic
        return made

    def tolist(self) -> Any:
        self.traffic.waits[_line()] += 1
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("a tensor of the device has no numpy array; use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        traffic = next(t.traffic for t in tree_leaves((args, kwargs)) if isinstance(t, cls))
        return _run(traffic, func, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):
    """Tensors that are made on `DEVICE` pretend while the mode is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(self.traffic, func, args, kwargs or {})

    def take(self, module: nn.Module) -> nn.Module:
        """Moves a module to the device; it is loaded outside of the mode."""
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    moved = PretendedTensor.of(parameter.data, self.traffic)
                    part._parameters[name] = nn.Parameter(moved, requires_grad=False)
            for name, buffer in list(part._buffers.items()):
                if buffer is not None:
                    part._buffers[name] = PretendedTensor.of(buffer, self.traffic)
        return module

    def forget(self) -> None:
        """Begins to count anew."""
        for counter in (self.traffic.kernels, self.traffic.copies, self.traffic.waits):
            counter.clear()
        self.traffic.operations.clear()


def _run(traffic: Traffic, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.split("::")[1]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendedTensor)]
    others = [t for t in tensors if not isinstance(t, PretendedTensor) and t.dim()]
    device = kwargs.get("device")
    to_us = device is not None and torch.device(device).type == DEVICE.type
    if not ours and not to_us:
        return func(*args, **kwargs)
    if to_us:
        kwargs = {**kwargs, "device": _CPU}
    if name == "_to_copy" and (to_us or (device is not None and ours)):
        crosses = to_us != bool(ours)
        (traffic.copies if to_us else traffic.waits)[_line()] += crosses or not to_us
        result = func(*_held(args), **_held(kwargs))
        return PretendedTensor.of(result, traffic) if to_us else result
    if name == "copy_":
        if isinstance(args[0], PretendedTensor) != isinstance(args[1], PretendedTensor):
            crossing = traffic.copies if isinstance(args[0], PretendedTensor) else traffic.waits
            crossing[_line()] += 1
    elif name in _WAITS:
        traffic.waits[_line()] += 1
    elif ours and others:
        if name not in _INDEXING:
            raise RuntimeError(f"{func}: tensors of the device and of the host at {_line()}")
        traffic.copies[_line()] += 1
    if name not in NO_KERNELS | _WAITS:
        traffic.kernels[name] += 1
    traffic.operations.append((name, tuple(tuple(tensor.shape) for tensor in tensors)))
    result = func(*_held(args), **_held(kwargs))
    if name.endswith("_") and not name.endswith("__"):
        return args[0]  # it was changed in place
    return tree_map_only(Tensor, lambda made: PretendedTensor.of(made, traffic), result)


def _held(tree: Any) -> Any:
    return tree_map_only(PretendedTensor, lambda tensor: tensor.held, tree)


def _line() -> str:
    """Returns the innermost line that is the project's own."""
    for frame in reversed(traceback.extract_stack()):
        if "foredraft_engine" in frame.filename:
            return f"{frame.filename.rsplit('/', 1)[1]}:{frame.lineno}"
    return "outside"
