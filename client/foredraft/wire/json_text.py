"""JSON objects that travel as text within messages."""

import json
from collections.abc import Mapping
from typing import Any

from foredraft.wire.shown import shown


def json_object(value: Any) -> str:
    """Returns a mapping as JSON; its keys keep their order, which may be that of an answer.

    Raises:
        TypeError: the value is no mapping, or JSON has no word for a part of it.
        ValueError: it is too deep, leads to itself, or holds a number that is not finite.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"must be a mapping, not {shown(value)}")
    try:
        return json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("is too deep") from None
