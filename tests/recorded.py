"""A recorder that needs no accelerator: it does again, one by one, the operations that it saw.

As with a CUDA graph, a replay reads and writes the tensors of the recording, whatever Python has
done meanwhile; and work that asks for a number of the device cannot be recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")
# What makes the host wait for numbers, or makes tensors whose sizes depend on them.
_WAITS = frozenset(["_local_scalar_dense", "item", "nonzero", "masked_select", "_unique2", "equal"])


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, and what it made."""

    func: Any
    args: Any
    kwargs: Any
    made: Any

    def repeat(self) -> None:
        """Does it again, into the tensors that it made."""
        again = self.func(*self.args, **self.kwargs)
        for old, new in zip(_tensors(self.made), _tensors(again), strict=True):
            if old.data_ptr() != new.data_ptr():
                old.copy_(new)


class OperationRecorder:
    """Records operations, of which it says how many there were."""

    def __init__(self) -> None:
        self.recordings: list[list[Operation]] = []
        self.replays = 0

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        with _Recording() as recording:
            made = work()
        self.recordings.append(recording.operations)
        for tensor in {id(t): t for one in recording.operations for t in _own(one)}.values():
            # A recording computes nothing; its tensors are undefined until it is replayed.
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
        return made, lambda: self._replay(recording.operations)

    def _replay(self, operations: list[Operation]) -> None:
        self.replays += 1
        for one in operations:
            one.repeat()


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.split("::")[1] in _WAITS:
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        made = func(*args, **(kwargs or {}))
        self.operations.append(Operation(func, args, kwargs or {}, made))
        return made


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _own(one: Operation) -> list[Tensor]:
    """Returns the tensors that an operation made, and that are no views of those it read."""
    read = {tensor.untyped_storage().data_ptr() for tensor in _tensors((one.args, one.kwargs))}
    made = _tensors(one.made)
    return [t for t in made if t.untyped_storage().data_ptr() not in read and t.numel()]
