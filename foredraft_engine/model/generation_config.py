"""A model's own generation_config.json, where transformers would not load the model for it.

This module knows nothing of what is served: the target says which fields have an effect.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig

from foredraft_engine.model.model_file import model_file

log = logging.getLogger(__name__)

_FILE = "generation_config.json"


def readable_generation_config(name: str, revision: str | None = None) -> Any:
    """Returns the part of a model's file that transformers accepts; None if it accepts all of it,
    or if there is no file.

    Args:
        name: the model directory or hub id.
        revision: the revision on the hub.
    """
    file = model_file(name, _FILE, revision)
    if file is None:
        return None
    try:
        values = json.loads(file.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("is no JSON object")
    except ValueError as error:
        log.warning("%s: its %s is left out: %s", name, _FILE, error)
        return GenerationConfig()
    return None if _refusal(values) is None else _accepted(name, values)


def _accepted(name: str, values: Mapping[str, Any]) -> GenerationConfig:
    """Leaves out, with a warning, each field that the ones before it are not accepted with."""
    accepted: dict[str, Any] = {}
    for field, value in values.items():
        reason = _refusal({**accepted, field: value})
        if reason is None:
            accepted[field] = value
        else:
            shown = " ".join(repr(value).split())[:100]
            log.warning("%s: %s in its %s is left out: %s: %s", name, field, _FILE, shown, reason)
    return GenerationConfig(**accepted)


def _refusal(values: Mapping[str, Any]) -> str | None:
    """Returns why transformers does not accept values; None if it does."""
    try:
        GenerationConfig(**values)
    except Exception as error:  # its checks compare values of any type
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None
