"""Generation parameters onto the wire and back, checked before anything is sent.

Knows nothing of the model: what is possible here and cannot be honoured there, the service refuses.
"""

from collections.abc import Mapping
from typing import Any

from foredraft._config import FIELDS, GenerationConfig
from foredraft._errors import InvalidRequestError
from foredraft._fields import read, write
from foredraft._refusals import is_off, refusal
from foredraft.v1 import generation_pb2

_TRANSFORMERS_TOP_K = 50


def config_message(config: Any, overrides: Mapping[str, Any]) -> generation_pb2.GenerationConfig:
    """The wire's form of a config (ours, transformers' or None) with keyword arguments over it.

    Raises:
        InvalidRequestError: a field that is unknown, not supported, or of no possible value.
    """
    values = {
        **_values(config),
        **{name: value for name, value in overrides.items() if value is not None},
    }
    if values.get("do_sample") is False and values.get("top_k") == _TRANSFORMERS_TOP_K:
        # transformers' default, which its older configs always carry: no request to sample.
        del values["top_k"]
    message = generation_pb2.GenerationConfig()
    for name, value in values.items():
        if name not in FIELDS:
            if is_off(name, value):
                continue
            raise refusal(name, value)
        try:
            write(message, name, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{name}={value!r}: {error}", field=name) from error
    return message


def config_from(message: generation_pb2.GenerationConfig) -> GenerationConfig:
    """The value of a config on the wire."""
    return GenerationConfig(
        **{field.name: read(field.name, value) for field, value in message.ListFields()}
    )


def _values(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, GenerationConfig):
        return {name: getattr(config, name) for name in FIELDS if getattr(config, name) is not None}
    if not hasattr(config, "to_dict"):
        message = f"generation_config: {type(config).__name__} is none; pass a GenerationConfig"
        raise InvalidRequestError(message, field="generation_config")
    given: dict[str, Any] = config.to_dict()
    # What begins with an underscore, and the version, are a config's notes about itself.
    about_itself = {name for name in given if name.startswith("_")} | {"transformers_version"}
    return {
        name: value
        for name, value in given.items()
        if value is not None and name not in about_itself
    }
