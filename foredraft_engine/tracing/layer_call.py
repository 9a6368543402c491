"""The call of a decoder layer in one pass, as it was recorded.

This module knows nothing of what the arguments mean, but that a cache is among them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import Cache


@dataclass(frozen=True, slots=True)
class LayerCall:
    """The arguments of a layer."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return tensors_of(self.args, self.kwargs)

    def replaced(self, tensors: Iterator[Tensor], cache: Cache) -> "LayerCall":
        """Returns the call with other tensors and another cache."""
        args = tuple(_replaced(value, tensors, cache) for value in self.args)
        kwargs = {name: _replaced(value, tensors, cache) for name, value in self.kwargs.items()}
        return LayerCall(args, kwargs)


def tensors_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Returns the tensors among arguments, those in tuples included, in their order."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple):
            found += [one for one in value if isinstance(one, Tensor)]
    return found


def record(layers: Sequence[nn.Module], run: Callable[[], object]) -> list[LayerCall]:
    """Runs a model and returns the call of each of its layers.

    Raises:
        ValueError: the model does not call each layer once, in their order.
    """
    calls: list[tuple[int, LayerCall]] = []

    def keep(index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((index, LayerCall(args, dict(kwargs))))

    hooks = [
        layer.register_forward_pre_hook(partial(keep, index), with_kwargs=True)
        for index, layer in enumerate(layers)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    if [index for index, _ in calls] != list(range(len(layers))):
        raise ValueError("the model does not call each of its layers once, in their order")
    return [call for _, call in calls]


def _replaced(value: Any, tensors: Iterator[Tensor], cache: Cache) -> Any:
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, tuple):
        return tuple(_replaced(one, tensors, cache) for one in value)
    return cache if isinstance(value, Cache) else value
