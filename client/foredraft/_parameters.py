"""Generation parameters onto the wire and back, checked before anything is sent.

Knows nothing of the model: what is possible here and cannot be honoured there, the service refuses.
"""

import math
import operator
from collections.abc import Mapping
from typing import Any

from foredraft._config import FIELDS, GenerationConfig
from foredraft._errors import InvalidRequestError
from foredraft._refusals import is_off, refusal
from foredraft.v1 import generation_pb2

_WIRE = generation_pb2.GenerationConfig.DESCRIPTOR.fields_by_name
_TRANSFORMERS_TOP_K = 50
UINT32_MAX, UINT64_MAX = 2**32 - 1, 2**64 - 1


def config_message(config: Any, overrides: Mapping[str, Any]) -> generation_pb2.GenerationConfig:
    """The wire's form of a config (ours, transformers' or None) with keyword arguments over it.

    Raises:
        InvalidRequestError: a field that is unknown, not supported, or of no possible value.
    """
    values = {**_values(config), **{name: value for name, value in overrides.items() if value is not None}}
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
            _assign(message, name, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{name}={value!r}: {error}", field=name) from error
    return message


def config_from(message: generation_pb2.GenerationConfig) -> GenerationConfig:
    """The value of a config on the wire."""
    return GenerationConfig(**{field.name: _plain(field.name, value) for field, value in message.ListFields()})


def whole(value: Any, limit: int = UINT32_MAX) -> int:
    """A whole number from 0 to `limit`, from whatever holds one.

    Raises:
        TypeError, ValueError: it is none.
    """
    value = _unboxed(value)
    if isinstance(value, bool):
        raise TypeError("must be a whole number, not a boolean")
    number = operator.index(value)
    if not 0 <= number <= limit:
        raise ValueError(f"must be between 0 and {limit}")
    return number


def whole_ids(value: Any) -> list[int]:
    """Token ids, from a sequence, an array or a tensor of one dimension; also from a single id.

    Raises:
        TypeError, ValueError: they are none.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, str | bytes | Mapping):
        raise TypeError("must be token ids")
    return [whole(i) for i in value] if hasattr(value, "__iter__") else [whole(value)]


def _values(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, GenerationConfig):
        return {name: getattr(config, name) for name in FIELDS if getattr(config, name) is not None}
    if isinstance(config, str):
        message = f"generation_config={config!r}: named configs are not supported yet; pass the fields themselves"
        raise InvalidRequestError(message, field="generation_config")
    if not hasattr(config, "to_dict"):
        message = f"generation_config: {type(config).__name__} is none; pass a GenerationConfig"
        raise InvalidRequestError(message, field="generation_config")
    given: dict[str, Any] = config.to_dict()
    # What begins with an underscore, and the version, are a config's notes about itself.
    about_itself = {name for name in given if name.startswith("_")} | {"transformers_version"}
    return {name: value for name, value in given.items() if value is not None and name not in about_itself}


def _assign(message: generation_pb2.GenerationConfig, name: str, value: Any) -> None:
    if name == "stop_strings":
        if not isinstance(value, str | list | tuple):
            raise TypeError("must be a string, or a list of strings")
        message.stop_strings.values.extend([value] if isinstance(value, str) else value)
        message.stop_strings.SetInParent()
    elif name == "bad_words_ids":
        message.bad_words_ids.values.extend(generation_pb2.TokenIds(ids=whole_ids(ids)) for ids in value)
        message.bad_words_ids.SetInParent()  # set and empty differs from not set
    elif name == "sequence_bias":
        pairs = value.items() if isinstance(value, Mapping) else value
        message.sequence_bias.values.extend(
            generation_pb2.SequenceBias(ids=whole_ids(ids), bias=_single(bias)) for ids, bias in pairs
        )
        message.sequence_bias.SetInParent()
    elif _WIRE[name].message_type is not None:
        ids = getattr(message, name)
        ids.ids.extend(whole_ids(value))
        ids.SetInParent()
    else:
        setattr(message, name, _scalar(_WIRE[name].cpp_type, value))


def _scalar(kind: int, value: Any) -> Any:
    value = _unboxed(value)
    if kind == _WIRE["max_new_tokens"].cpp_type:
        return whole(value)
    if kind == _WIRE["temperature"].cpp_type:
        return _finite(value)
    wanted = bool if kind == _WIRE["do_sample"].cpp_type else str
    if not isinstance(value, wanted):
        raise TypeError(f"must be of type {wanted.__name__}")
    return value


def _finite(value: Any) -> float:
    value = _unboxed(value)
    if isinstance(value, bool | str):
        raise TypeError("must be a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _single(value: Any) -> float:
    """A number that single precision, which is what travels, can hold."""
    number = _finite(value)
    if not math.isfinite(generation_pb2.SequenceBias(bias=number).bias):
        raise ValueError("must fit single precision")
    return number


def _unboxed(value: Any) -> Any:
    """The plain number in a scalar of numpy's or torch's."""
    return value.item() if hasattr(value, "item") else value


def _plain(name: str, value: Any) -> Any:
    if name == "stop_strings":
        return tuple(value.values)
    if name == "bad_words_ids":
        return tuple(tuple(entry.ids) for entry in value.values)
    if name == "sequence_bias":
        return tuple((tuple(entry.ids), entry.bias) for entry in value.values)
    return tuple(value.ids) if _WIRE[name].message_type is not None else value
