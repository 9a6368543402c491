"""Sizes of memory, as operators write them.

This module knows nothing of what the memory is for.
"""

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE)


class MemorySize(int):
    """A number of bytes, also read from text with a unit: 8GiB, 512Mi, 8GB."""

    kind = "size such as 8GiB"

    def __new__(cls, value: str | int) -> "MemorySize":
        if isinstance(value, int):
            return super().__new__(cls, value)
        if not (read := _SIZE.fullmatch(value.strip())) or (read[3] and not read[2]):
            raise ValueError(f"{value!r} is no size")
        power = " kmgt".index(read[2].lower() or " ")
        return super().__new__(cls, int(float(read[1]) * (1024 if read[3] else 1000) ** power))


UNBOUNDED = MemorySize(0)
