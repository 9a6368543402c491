"""The libraries that quantize keys and values, behind one interface.

A *group* is a fixed number of neighbouring positions of one row and layer, [positions, kv heads,
head size]. The library's own quantizer gets each group separately, as a matrix [positions, heads *
size], so that the result depends on the group alone. A group has as many positions as numbers share
a scale, so that these divide evenly along either axis. Many groups are read back at once, by the
library's own formula.

This module knows nothing of rows, or of when a group is quantized.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

Parts = tuple[Tensor, ...]
"""The quantized numbers of a group, with their scales and offsets."""


class Quantizer(Protocol):
    """Quantizes groups and reads them back."""

    def quantize(self, states: Tensor, axis: int) -> Parts:
        """Quantizes one group, [positions, heads, size]. The result depends on the group alone."""

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        """Reads groups back in the data type that they had.

        Args:
            groups: groups of one shape.
            axis: as given to `quantize`.
            shape: of one group, [positions, heads, size].

        Returns:
            [len(groups) * positions, heads, size].
        """


@dataclass(frozen=True, slots=True)
class Backend:
    """The abilities of a quantization library."""

    nbits: tuple[int, ...]
    """The numbers of bits that it offers."""
    axes: tuple[int, ...]
    """The axes along which numbers can share a scale; empty if there is no choice."""
    module: str = ""
    """The library's module; empty if torch does the work."""
    extra: str = ""
    """The extra of this project that installs the library."""

    @property
    def is_installed(self) -> bool:
        """Whether the library is installed."""
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
    """Returns the quantizer of a backend.

    Raises:
        ImportError: its library is not installed.
    """
    if backend == "quanto":
        return Quanto(nbits)
    if backend == "hqq":
        return Hqq(nbits)
    return Fp8() if backend == "fp8" else Exact()


class Quanto:
    """optimum-quanto: divides the range of a group's numbers into even steps.

    Axis 0 runs along positions, axis -1 along channels.
    """

    def __init__(self, nbits: int) -> None:
        from optimum.quanto import MaxOptimizer, qint2, qint4
        from optimum.quanto.tensor.packed import pack_weights

        self._nbits, self._type = nbits, {2: qint2, 4: qint4}[nbits]
        self._optimize: Any = MaxOptimizer()
        self._quantize: Any = torch.ops.quanto.quantize_affine
        self._pack: Any = pack_weights

    def quantize(self, states: Tensor, axis: int) -> Parts:
        # quanto divides each index of axis 0 into groups, so that the matrix gets a leading axis.
        size, matrix = len(states), states.flatten(1)[None]
        scale, shift = self._optimize(matrix, self._type, axis, size)
        # The scale of equal numbers is 0, which would make them NaN.
        scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
        # What its `quantize_weight` consists of, which would wrap the numbers as a weight.
        data = self._quantize(matrix, self._nbits, axis, size, scale, shift)
        return self._pack(data, self._nbits), scale, shift

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        # quanto's own unpacking compiles an extension at its first call, which takes more than a
        # minute on a CPU. It packs the first rows into the low bits.
        data, scale, shift = _together(groups)
        mask = (1 << self._nbits) - 1
        levels = torch.cat([(data >> low) & mask for low in range(0, 8, self._nbits)])
        numbers = (levels * scale).sub_(shift)
        del data, levels  # freed before everything is copied once more
        return _apart(numbers, shape)


class Hqq:
    """Half-quadratic quantization: even steps, with a fitted zero point.

    Axis 1 runs along positions, axis 0 along channels.
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
        rows = shape.numel() // data.shape[2]  # three bits are padded to a multiple of ten rows
        return _apart(levels[:rows].sub_(zero).mul_(scale), shape)


class Fp8:
    """torch's eight-bit floating point, with a scale for each head of a group.

    transformers takes one scale for a whole tensor, from the numbers that come first; later numbers
    may leave its range. A scale for each group depends on the group alone.
    """

    _TYPE = torch.float8_e4m3fn

    def quantize(self, states: Tensor, axis: int) -> Parts:
        largest = torch.finfo(self._TYPE).max
        scale = (states.abs().amax((0, 2), keepdim=True) / largest).clamp(
            min=torch.finfo(states.dtype).tiny
        )
        # Without the clamp a number beyond the range would become NaN.
        return (states / scale).clamp(-largest, largest).to(self._TYPE), scale

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        data, scale = (torch.stack(part) for part in zip(*groups, strict=True))
        return (data.to(scale.dtype) * scale).flatten(0, 1)


class Exact:
    """Keeps groups exactly. It serves to prove that a model attends to groups rightly."""

    def quantize(self, states: Tensor, axis: int) -> Parts:
        return (states.clone(),)

    def dequantize(self, groups: Sequence[Parts], axis: int, shape: torch.Size) -> Tensor:
        return torch.cat([states for (states,) in groups])


def _together(groups: Sequence[Parts]) -> list[Tensor]:
    """Stacks the parts of all groups along a new second dimension.

    Both libraries pack along the first one.
    """
    return [torch.stack(part, dim=1) for part in zip(*groups, strict=True)]


def _apart(numbers: Tensor, shape: torch.Size) -> Tensor:
    """Turns the library's [rows, groups, columns] into [groups * positions, heads, size]."""
    return numbers.transpose(0, 1).reshape(-1, *shape[1:])
