"""A device that pretends: its tensors say that they are on an accelerator, and compute on the CPU.

An operation that mixes its tensors with others is refused, as CUDA refuses it, and what host and
device say to each other is counted: kernels, copies to the device, and waits for it, each with the
line that made it. So a test without an accelerator shows how often a step speaks to one.

A thread that makes tensors on the device has to enter a `PretendedDevice`; without it torch knows
no way to make them, and says so.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

torch.utils.backend_registration._setup_privateuseone_for_python_backend("pretended")
DEVICE = torch.device("pretended")
_CPU = torch.device("cpu")
# Another view of the same memory, or memory alone: no kernel runs.
_VIEWS = ["view", "_unsafe_view", "slice", "select", "expand", "unsqueeze", "squeeze", "transpose"]
_MORE_VIEWS = ["t", "permute", "as_strided", "split", "split_with_sizes", "unbind", "detach"]
_MEMORY = ["alias", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty"]
NO_KERNELS = frozenset([*_VIEWS, *_MORE_VIEWS, *_MEMORY])
# The host has to know a number before it goes on: a value, or how large the result is.
_READS = ["_local_scalar_dense", "equal", "is_nonzero"]
_SIZES = ["nonzero", "masked_select", "repeat_interleave", "_unique2", "unique_dim", "bincount"]
_WAITS = frozenset([*_READS, *_SIZES])
_INDEXING = frozenset(["index", "index_put", "index_put_", "_index_put_impl_"])


@dataclass
class Traffic:
    """What host and device said to each other, by operation or by the line that made it."""

    kernels: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    operations: list[tuple[str, tuple[tuple[int, ...], ...]]] = field(default_factory=list)
    """The operations in order, with the shapes of their tensors."""
    refused: list[str] = field(default_factory=list)
    """The operations that mixed devices. It is never forgotten."""


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

    def __repr__(self) -> str:  # type: ignore[override]
        return f"pretended {self.held!r}"

    def numpy(self, **_: Any) -> Any:
        raise TypeError("a tensor of the device has no numpy array; use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if _is_composite(func):
            return func.decompose(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        traffic = next(t.traffic for t in _tensors(args, kwargs) if isinstance(t, cls))
        return _run(traffic, func, args, kwargs)


class PretendedDevice(TorchDispatchMode):
    """Tensors that a thread makes on `DEVICE` pretend while it has entered this."""

    def __init__(self, traffic: Traffic | None = None) -> None:
        """Counts in `traffic`, which several threads may share."""
        super().__init__()
        self.traffic = traffic or Traffic()
        self._lifted: list[bool] = []

    def __enter__(self) -> "PretendedDevice":
        # Otherwise `torch.tensor` copies its numbers to a device below everything that can pretend.
        self._lifted.append(torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifted.pop())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
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


@cache
def _is_composite(func: Any) -> bool:
    """Returns whether an operation consists of others, on every device. Inference mode asks for
    such an operation as a whole.
    """
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)


def _run(traffic: Traffic, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.split("::")[1]
    tensors = _tensors(args, kwargs)
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
    elif name in _WAITS or _counts(name, args):
        traffic.waits[_line()] += 1
    elif ours and others:
        if name not in _INDEXING:
            traffic.refused.append(f"{func} at {_line()}")
            raise RuntimeError(f"{func}: tensors of the device and of the host at {_line()}")
        traffic.copies[_line()] += 1
    if name not in NO_KERNELS | _WAITS:
        traffic.kernels[name] += 1
    traffic.operations.append((name, tuple(tuple(tensor.shape) for tensor in tensors)))
    result = func(*_held(args), **_held(kwargs))
    if name.endswith("_") and not name.endswith("__"):
        return args[0]  # it was changed in place
    if isinstance(result, Tensor):
        return PretendedTensor.of(result, traffic)
    return tree_map_only(Tensor, lambda made: PretendedTensor.of(made, traffic), result)


def _counts(name: str, args: Sequence[Any]) -> bool:
    """Returns whether an operation indexes by a mask, whose true entries have to be counted. To
    write one number through a mask needs no count.
    """
    if name not in _INDEXING or (len(args) > 2 and args[2].numel() == 1):
        return False
    return any(index is not None and index.dtype is torch.bool for index in args[1])


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Returns the tensors among arguments, which hold them themselves or in lists."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        members = value if isinstance(value, list | tuple) else (value,)
        found += [member for member in members if isinstance(member, Tensor)]
    return found


def _held(value: Any) -> Any:
    """Returns arguments with the tensors that ours stand for."""
    if isinstance(value, PretendedTensor):
        return value.held
    if isinstance(value, list | tuple):
        return type(value)([_held(member) for member in value])
    if isinstance(value, dict):
        return {name: _held(member) for name, member in value.items()}
    return value


def _line() -> str:
    """Returns the innermost line that is the project's own."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "foredraft_engine" in file or "target_service" in file or "draft_service" in file:
            return f"{file.rsplit('/', 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside"
