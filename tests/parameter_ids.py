"""Names of a test's parameters, which are the same in every process."""

import re


def parameter_id(value: object) -> str:
    """Returns a value as its `repr` shows it, without the places of objects in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
