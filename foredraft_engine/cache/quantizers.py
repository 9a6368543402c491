"""The libraries that quantize keys and values: one seam, whatever the library.

A *group* is so many neighbouring positions of one row and layer, [positions, kv heads, head size].
It is given to the library's own quantizer as a matrix [positions, heads * size], by itself, so that
what becomes of it depends on nothing else; as many positions as numbers share a scale, so that
these divide evenly along either axis. What the library made of many groups is read back at once, by
its own formula.

Knows nothing of rows, or of when a group is quantized.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

Parts = tuple[Tensor, ...]
"""Numbers of a group in few bits, and what scales them."""


class Quantizer(Protocol):
    """Quantizes groups and reads them back."""

    def quantize(self, states: Tensor, axis: int) -> Parts:
        """Of one group [positions, heads, size]; a function of these numbers alone."""

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        """[len(groups) * positions, heads, size] from groups of one shape, in the data type that
        they had.
        """


@dataclass(frozen=True, slots=True)
class Backend:
    """What a library can do."""

    nbits: tuple[int, ...]
    axes: tuple[int, ...]  # none where numbers are not grouped
    module: str = ""
    extra: str = ""  # of this project, which installs it

    @property
    def is_installed(self) -> bool:
        """Whether the library is there."""
        parent = self.module.partition(".")[0]
        return not parent or bool(
            importlib.util.find_spec(parent) and importlib.util.find_spec(self.module)
        )


BACKENDS = {
    "quanto": Backend((2, 4), (0, -1), "optimum.quanto", "quanto"),
    "hqq": Backend((1, 2, 3, 4, 8), (0, 1), "hqq", "hqq"),
    "fp8": Backend((8,), ()),
}


@cache
def quantizer(backend: str, nbits: int) -> Quantizer:
    """A backend's quantizer.

    Raises:
        ImportError: its library is not installed.
    """
    if backend == "quanto":
        return Quanto(nbits)
    if backend == "hqq":
        return Hqq(nbits)
    return Fp8() if backend == "fp8" else Exact()


class Quanto:
    """optimum-quanto: the range of a group's numbers in even steps.

    Axis 0 runs along positions, -1 along channels.
    """

    def __init__(self, nbits: int) -> None:
        from optimum.quanto import MaxOptimizer, qint2, qint4, quantize_weight

        self._nbits, self._type = nbits, {2: qint2, 4: qint4}[nbits]
        self._optimize: Any = MaxOptimizer()
        self._quantize: Any = quantize_weight

    def quantize(self, states: Tensor, axis: int) -> Parts:
        size, matrix = (
            len(states),
            states.flatten(1)[None],
        )  # it divides what an index of axis 0 has
        scale, shift = self._optimize(matrix, self._type, axis, size)
        scale = scale.clamp(
            min=torch.finfo(scale.dtype).tiny
        )  # of equal numbers it is 0, and they would be none
        # Not optimized: some shapes would be kept in the order that a kernel for weights wants.
        made = self._quantize(matrix, self._type, axis, scale, shift, size, optimized=False)
        return made._data._data, made._scale, made._shift

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        # quanto's own unpacking compiles an extension at its first call, for more than a minute on
        # a CPU. Its packing: the first rows in the low bits.
        data, scale, shift = _together(groups)
        mask = (1 << self._nbits) - 1
        levels = torch.cat([(data >> low) & mask for low in range(0, 8, self._nbits)])
        numbers = (levels * scale).sub_(shift)
        del data, levels  # before all is copied once more
        return _apart(numbers, shape)


class Hqq:
    """Half-quadratic quantization: even steps, with a zero point that is fitted. Axis 1 runs along
    positions, 0 along channels.
    """

    def __init__(self, nbits: int) -> None:
        from hqq.core.quantize import Quantizer as Library

        self._nbits, self._library = nbits, Library
        self._unpack: Any = Library.unpack[Library.bit_to_packing[nbits]]

    def quantize(self, states: Tensor, axis: int) -> Parts:
        options = {
            "axis": axis,
            "nbits": self._nbits,
            "group_size": len(states),
            "device": states.device,
        }
        data, made = self._library.quantize(
            states.flatten(1), compute_dtype=states.dtype, **options
        )
        return data, made["scale"].to(states.dtype), made["zero"].to(states.dtype)

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        data, scale, zero = _together(groups)
        levels = self._unpack(data.flatten(1), dtype=scale.dtype).unflatten(1, data.shape[1:])
        rows = shape.numel() // data.shape[2]  # three bits are padded to tens of rows
        return _apart(levels[:rows].sub_(zero).mul_(scale), shape)


class Fp8:
    """Eight bits with an exponent, of torch: a scale for each head of a group, so that it depends
    on the group alone.

    transformers has one for a whole tensor, of the numbers that came first; what comes later may
    leave its range.
    """

    _TYPE = torch.float8_e4m3fn

    def quantize(self, states: Tensor, axis: int) -> Parts:
        largest = torch.finfo(self._TYPE).max
        scale = (states.abs().amax((0, 2), keepdim=True) / largest).clamp(
            min=torch.finfo(states.dtype).tiny
        )
        return (states / scale).clamp(-largest, largest).to(
            self._TYPE
        ), scale  # without a clamp, beyond it is NaN

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        data, scale = (torch.stack(part) for part in zip(*groups, strict=True))
        return (data.to(scale.dtype) * scale).flatten(0, 1)


class Exact:
    """Keeps groups as they are: tries on a model that they are put together as the model has it."""

    def quantize(self, states: Tensor, axis: int) -> Parts:
        return (states.clone(),)

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        return torch.cat([states for (states,) in groups])


def _together(groups: Sequence[Parts]) -> list[Tensor]:
    """Parts of all groups, side by side between the two dimensions:

    both libraries pack along the first one.
    """
    return [torch.stack(part, dim=1) for part in zip(*groups, strict=True)]


def _apart(numbers: Tensor, shape: torch.Size) -> Tensor:
    """From [rows, groups, columns], in the order of the library, to [groups * positions, heads,
    size].
    """
    return numbers.transpose(0, 1).reshape(-1, *shape[1:])
