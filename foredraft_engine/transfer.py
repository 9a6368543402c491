"""Moves the numbers that a step needs to the device in one copy, and those it made back in one.

On an accelerator every copy costs the host some microseconds and a place in the queue, and every
copy back a wait, however small they are. So all arrays travel as the bytes of one buffer.

This module knows nothing of what the numbers mean.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HostArray = NDArray[Any]

# Every array begins at a multiple of the largest number, so that the device can read it in place.
_ALIGNED_BYTES = 8
_DTYPES: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(np.int64): torch.int64,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
    np.dtype(np.bool_): torch.bool,
}
_NUMPY_DTYPES = {dtype: name for name, dtype in _DTYPES.items()}


def to_device(arrays: Sequence[HostArray], device: torch.device) -> list[Tensor]:
    """Returns the arrays as tensors on the device, after one copy that the host does not wait for.

    Args:
        arrays: of int64, int32, float32, float64 or bool, of any shapes.
    """
    starts, end = [], 0
    for array in arrays:
        starts.append(end)
        end += -(-array.nbytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
    if not end:
        return [torch.empty(a.shape, dtype=_DTYPES[a.dtype], device=device) for a in arrays]
    pinned = device.type == "cuda"
    buffer = torch.empty(end, dtype=torch.uint8, pin_memory=pinned)
    raw = buffer.numpy()
    for array, start in zip(arrays, starts, strict=True):
        raw[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    moved = buffer.to(device, non_blocking=True)
    return [
        moved[start : start + array.nbytes].view(_DTYPES[array.dtype]).view(array.shape)
        for array, start in zip(arrays, starts, strict=True)
    ]


def groups_to_device(
    groups: Sequence[Sequence[HostArray]], device: torch.device
) -> list[list[Tensor]]:
    """Returns groups of arrays as groups of tensors on the device, after one copy."""
    tensors = iter(to_device([array for group in groups for array in group], device))
    return [list(islice(tensors, len(group))) for group in groups]


def to_host(tensors: Sequence[Tensor]) -> list[HostArray]:
    """Returns tensors as arrays on the host, after one wait for the device."""
    parts = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    raw = torch.cat(parts).cpu().numpy().tobytes()
    arrays, start = [], 0
    for tensor in tensors:
        dtype = _NUMPY_DTYPES[tensor.dtype]
        count = tensor.numel()
        arrays.append(np.frombuffer(raw, dtype, count, start).reshape(tensor.shape))
        start += count * dtype.itemsize
    return arrays
