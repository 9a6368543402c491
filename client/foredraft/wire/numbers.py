"""Numbers as messages hold them, from whatever a caller passes: plain numbers, numpy's, torch's."""

import math
import operator
from collections.abc import Iterable, Mapping
from typing import SupportsFloat, SupportsIndex, cast

from foredraft.v1 import generation_pb2

UINT32_MAX, UINT64_MAX = 2**32 - 1, 2**64 - 1


def whole(value: object, limit: int = UINT32_MAX) -> int:
    """Returns a whole number from 0 to `limit`.

    Raises:
        TypeError, ValueError: the value is no such number.
    """
    number = signed(value)
    if not 0 <= number <= limit:
        raise ValueError(f"must be between 0 and {limit}")
    return number


def whole_ids(value: object) -> list[int]:
    """Returns token ids from one id, a sequence, or an array or tensor of one dimension.

    Raises:
        TypeError, ValueError: the value holds something else.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, str | bytes | Mapping):
        raise TypeError("must be token ids")
    return [whole(i) for i in value] if isinstance(value, Iterable) else [whole(value)]


def signed(value: object) -> int:
    """Returns a whole number.

    Raises:
        TypeError: the value is no whole number, or a boolean.
    """
    value = unboxed(value)
    if isinstance(value, bool):
        raise TypeError("must be a whole number, not a boolean")
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:  # its words are about Python
        raise TypeError("must be a whole number") from None


def finite(value: object) -> float:
    """Returns a finite number.

    Raises:
        TypeError, ValueError: the value is no number, NaN or infinite.
    """
    value = unboxed(value)
    if isinstance(value, bool | str) or not isinstance(value, SupportsFloat | SupportsIndex):
        raise TypeError("must be a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def single(value: object) -> float:
    """Returns a number that single precision can hold, which is what a message carries.

    Raises:
        TypeError, ValueError: the value is no such number.
    """
    number = finite(value)
    if not math.isfinite(generation_pb2.SequenceBias(bias=number).bias):
        raise ValueError("must fit single precision")
    return number


def unboxed(value: object) -> object:
    """Returns the plain number in a scalar of numpy or torch, and any other value unchanged."""
    return value.item() if hasattr(value, "item") else value
