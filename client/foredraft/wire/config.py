"""Generation configs onto the wire and back, checked before anything is sent.

This module knows nothing of the model: the service refuses what it cannot honour.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft._generation_config import GenerationConfig
from foredraft.v1 import generation_pb2
from foredraft.wire.generation_fields import GENERATION_FIELDS
from foredraft.wire.other_names import HINTS
from foredraft.wire.shown import shown
from foredraft.wire.unsupported_fields import NOTES, UNSUPPORTED_FIELDS
from foredraft.wire.values import read, write

_TRANSFORMERS_TOP_K = 50


def config_message(
    config: object, overrides: Mapping[str, object]
) -> generation_pb2.GenerationConfig:
    """Returns the message for a config with keyword arguments over it.

    Args:
        config: a GenerationConfig of foredraft or transformers, or None.
        overrides: fields by name; None leaves a field as the config has it.

    Raises:
        InvalidRequestError: a field is unknown, not supported, or cannot have its value.
    """
    values = {
        **_values(config),
        **{k: value for k, value in overrides.items() if value is not None},
    }
    if values.get("do_sample") is False and values.get("top_k") == _TRANSFORMERS_TOP_K:
        # This is transformers' default, which its older configs always carry: no wish to sample.
        del values["top_k"]
    message = generation_pb2.GenerationConfig()
    for name, value in values.items():
        if name not in GENERATION_FIELDS:
            refuse_unsupported(name, value)
            continue
        try:
            write(message, name, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{name}={shown(value)}: {error}", field=name) from error
    return message


def config_from(message: generation_pb2.GenerationConfig) -> GenerationConfig:
    """Returns the config that a message holds."""
    values: dict[str, Any] = {f.name: read(f.name, value) for f, value in message.ListFields()}
    return GenerationConfig(**values)


def refuse_unsupported(name: str, value: object) -> None:
    """Refuses a parameter that is no generation field, unless its value asks for nothing.

    Raises:
        InvalidRequestError: the way out is named.
    """
    field = UNSUPPORTED_FIELDS.get(name)
    if field is None:
        if value is None or value == []:
            return
        if name in HINTS:
            raise InvalidRequestError(f"{name!r} {HINTS[name]}", field=name)
        near = difflib.get_close_matches(name, GENERATION_FIELDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        reason = f"{name!r} is no generation parameter, nor an argument of this call{hint}"
        raise InvalidRequestError(reason, field=name)
    if not field.is_off(value):
        reason = f"{name}={shown(value)} is not supported: {field.way_out}"
        raise InvalidRequestError(reason, field=name)


def refuse_unknown(names: Mapping[str, object]) -> None:
    """Refuses the names of a new config that are no generation fields, as a call does.

    Raises:
        InvalidRequestError: a name is no field; the way out is named.
    """
    for name in names.keys() - GENERATION_FIELDS.keys():
        refuse_unsupported(name, names[name])
        raise InvalidRequestError(f"{name!r} is no field of a config; leave it out", field=name)


def is_note(name: str) -> bool:
    """Whether a config says something about itself under this name, such as its version."""
    return name.startswith("_") or name in NOTES


def _values(config: object) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, GenerationConfig):
        values = {name: getattr(config, name) for name in GENERATION_FIELDS}
        return {name: value for name, value in values.items() if value is not None}
    if not hasattr(config, "to_dict"):
        kind = type(config).__name__
        reason = f"generation_config: {kind} is no generation config; pass a GenerationConfig"
        raise InvalidRequestError(reason, field="generation_config")
    given: dict[str, Any] = config.to_dict()
    return {k: value for k, value in given.items() if value is not None and not is_note(k)}
