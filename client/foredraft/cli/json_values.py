"""What the client returns, as JSON: without what is not set.

This module knows nothing of what the values mean.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from foredraft import Result


def json_of(value: Any, indent: int | None = None) -> str:
    """Returns a value of the client as JSON."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False)


def json_of_result(result: Result) -> str:
    """Returns a generated text as one line of JSON, with its figures among the statistics.

    Scores, log-probabilities and rounds are there if they were asked for.
    """
    shown = _plain(result)
    shown["stats"] |= figures_of(result)
    for name in ("logprobs", "scores", "logits", "rounds", "prompt_logprobs"):
        if not shown[name]:
            del shown[name]
    return json.dumps(shown, ensure_ascii=False)


def figures_of(result: Result) -> dict[str, float]:
    """Returns what follows from the statistics of a text."""
    return {
        "acceptance_rate": round(result.stats.acceptance_rate, 3),
        "mean_acceptance_length": round(result.stats.mean_acceptance_length, 3),
    }


def json_of_stats(result: Result) -> str:
    """Returns the statistics of a text as one line of JSON."""
    return json.dumps(_plain(result.stats) | figures_of(result))


def _plain(value: Any) -> Any:
    """Returns a value of dictionaries, lists, texts and numbers."""
    if is_dataclass(value):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
        value = list(value.items())  # biases of token sequences
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no other word for minus infinity
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
