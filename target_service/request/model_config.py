"""What a model's own generation_config.json sets, read as generously as transformers reads it.

A value that transformers does not apply, or that would make it fail in every call, is left out with
a warning at start; callers did not set it and cannot mend it. This module knows nothing of calls.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from foredraft.wire import GENERATION_FIELDS, UNSUPPORTED_FIELDS, Field, Kind, write
from foredraft.wire.config import is_note
from foredraft_engine.errors import InvalidFieldError, ModelError
from foredraft_serving.ranges import check_ranges
from target_service.request.defaults import Config

log = logging.getLogger(__name__)

FILE = "generation_config.json"
_ANY_ID = 1 << 32
_LEAST_TEMPERATURE = _LEAST_TOP_P = 1e-6


def model_config(name: str, values: Mapping[str, Any], known_ids: int = _ANY_ID) -> Config:
    """Returns what a model's generation_config.json sets, as a message.

    Args:
        name: the model, for messages.
        values: the fields of the file.
        known_ids: the number of ids that the model knows, see `LoadedModel.known_ids`.

    Raises:
        ModelError: the file asks for a way of decoding that is not served. Serving the model
            without it would change what the model is meant to say.
    """
    config = Config()
    quantized = values.get("cache_implementation") == "quantized"  # the one cache that changes text
    for field, value in values.items():
        if value is None or is_note(field):
            continue
        declared = GENERATION_FIELDS.get(field)
        if declared is None:
            _pass_over(name, field, value)
        elif declared.changes_text or (quantized and field.startswith("cache_")):
            if field.startswith("cache_"):  # settings of the service may say the same
                _write_strictly(name, config, field, value)
            else:
                _write(name, config, declared, value, known_ids)
    return config


def without_contradictions(
    name: str, model: Config, check: Callable[[Config, Config], object]
) -> Config:
    """Returns a model's config without the fields for which every call would be refused.

    Args:
        name: the model, for messages.
        model: what its file sets.
        check: raises InvalidFieldError for what a call sets over what the model sets.
    """
    kept = Config()
    kept.CopyFrom(model)
    for asked in (Config(), Config(do_sample=False), Config(do_sample=True)):
        while error := _refusal(check, asked, kept):
            own = [field for field in error.fields if _sets(kept, field)]
            if not own or any(_sets(asked, field) for field in error.fields):
                break  # the caller's own field is one of those that contradict one another
            _warn(name, own[0], getattr(kept, own[0]), f"contradicts other fields: {error}")
            kept.ClearField(own[0])
    return kept


def _refusal(
    check: Callable[[Config, Config], object], asked: Config, model: Config
) -> InvalidFieldError | None:
    try:
        check(asked, model)
    except InvalidFieldError as error:
        return error
    return None


def _sets(config: Config, field: str) -> bool:
    return field in GENERATION_FIELDS and config.HasField(field)


def _pass_over(name: str, field: str, value: object) -> None:
    """Passes over what is no generation field, in silence if it asks for nothing."""
    refused = UNSUPPORTED_FIELDS.get(field)
    if refused is None:
        _warn(name, field, value, "is no generation parameter")
    elif refused.in_model_config or refused.is_off(value):
        return
    elif refused.changes_text:
        raise ModelError(
            f"{name}: its {FILE} sets {field}={value!r}, which is not supported; serve a copy of "
            "the model directory without that field"
        )
    else:
        _warn(name, field, value, "has no effect on a model's text")


def _write(name: str, config: Config, field: Field, value: Any, known_ids: int) -> None:
    """Sets a field, or as much of it as has an effect in transformers."""
    own = Config()
    try:
        write(own, field.name, _effective(name, field, value, known_ids))
        check_ranges(own, known_ids)
    except (TypeError, ValueError, OverflowError) as error:
        _warn(name, field.name, value, str(error).removeprefix(f"{field.name}: "))
    else:
        config.MergeFrom(own)


def _write_strictly(name: str, config: Config, field: str, value: object) -> None:
    try:
        write(config, field, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{name}: its {FILE} sets {field}={value!r}: {error}") from error


def _effective(name: str, field: Field, value: Any, known_ids: int) -> Any:
    """Returns the part of a value that has an effect in transformers."""
    if field.kind is Kind.TOKEN_IDS:
        ids = value if isinstance(value, list | tuple) else [value]
        strange = [i for i in ids if isinstance(i, int) and not 0 <= i < known_ids]
        if strange:
            _warn(name, field.name, strange, "the model has no such token")
        return [i for i in ids if i not in strange]
    if field.kind is Kind.TOKEN_ID and isinstance(value, int) and not 0 <= value < known_ids:
        raise ValueError("the model has no such token")
    if field.name == "top_p" and value == 0:  # leaves one token, as any value near it does
        return _LEAST_TOP_P
    if field.name == "temperature" and isinstance(value, float) and 0 < value < _LEAST_TEMPERATURE:
        return _LEAST_TEMPERATURE
    return value


def _warn(name: str, field: str, value: object, reason: str) -> None:
    shown = " ".join(repr(value).split())[:100]
    log.warning("%s: %s in its %s is left out: %s: %s", name, field, FILE, shown, reason)
