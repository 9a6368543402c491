"""The fields of a generation config onto the wire and back, one by one. The target reads JSON
configs with it, too.

Knows nothing of what a value means: what is possible here and cannot be honoured there, the service
refuses.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from foredraft.v1 import generation_pb2

Config = generation_pb2.GenerationConfig
UINT32_MAX, UINT64_MAX = 2**32 - 1, 2**64 - 1

_WIRE = Config.DESCRIPTOR.fields_by_name
_EARLY_STOPPING: dict[bool | str, generation_pb2.EarlyStopping] = {
    False: generation_pb2.EARLY_STOPPING_FALSE,
    True: generation_pb2.EARLY_STOPPING_TRUE,
    "never": generation_pb2.EARLY_STOPPING_NEVER,
}


def write(message: Config, name: str, value: Any) -> None:
    """Sets a field from the plain value that transformers' config holds.

    Raises:
        TypeError, ValueError, OverflowError: it cannot be the value of this field.
    """
    if name == "stop_strings":
        if not isinstance(value, str | list | tuple):
            raise TypeError("must be a string, or a list of strings")
        message.stop_strings.values[:] = [value] if isinstance(value, str) else value
    elif name == "bad_words_ids":
        message.bad_words_ids.values.extend(
            generation_pb2.TokenIds(ids=whole_ids(ids)) for ids in value
        )
    elif name == "sequence_bias":
        pairs = value.items() if isinstance(value, Mapping) else value
        message.sequence_bias.values.extend(
            generation_pb2.SequenceBias(ids=_sequence(ids), bias=_single(bias))
            for ids, bias in pairs
        )
    elif name == "early_stopping":
        if not isinstance(value, bool) and value != "never":
            raise TypeError("must be True, False or 'never'")
        message.early_stopping = _EARLY_STOPPING[value]
    elif name == "exponential_decay_length_penalty":
        start, factor = value
        message.exponential_decay_length_penalty.CopyFrom(
            generation_pb2.ExponentialDecay(start=whole(start), factor=_finite(factor))
        )
    elif name == "watermarking_config":
        write_watermark(message.watermarking_config, value)
    elif name == "cache_config":
        _write_message(message.cache_config, _mapping(value))
    elif _WIRE[name].message_type is not None:
        getattr(message, name).ids[:] = whole_ids(value)
    else:
        setattr(message, name, _scalar(_WIRE[name], value))
    if _WIRE[name].message_type is not None:
        getattr(message, name).SetInParent()  # set and empty differs from not set


def read(name: str, value: Any) -> Any:
    """The plain value of a field of the wire."""
    if name == "stop_strings":
        return tuple(value.values)
    if name == "bad_words_ids":
        return tuple(tuple(entry.ids) for entry in value.values)
    if name == "sequence_bias":
        return tuple((tuple(entry.ids), entry.bias) for entry in value.values)
    if name == "early_stopping":
        return next((plain for plain, number in _EARLY_STOPPING.items() if number == value), False)
    if name == "exponential_decay_length_penalty":
        return (value.start, value.factor)
    if name == "watermarking_config":
        scheme = value.WhichOneof("scheme")
        return _read_message(getattr(value, scheme)) if scheme else {}
    if name == "cache_config":
        return _read_message(value)
    return tuple(value.ids) if _WIRE[name].message_type is not None else value


def write_watermark(message: generation_pb2.WatermarkingConfig, value: Any) -> None:
    """Sets a watermark from transformers' object, or its dictionary; what has keys is SynthID.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    values = _mapping(value)
    scheme = message.synth_id if {"keys", "ngram_len"} & values.keys() else message.greenlist
    _write_message(scheme, values)
    scheme.SetInParent()


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


def _sequence(ids: Any) -> list[int]:
    """Ids of a sequence, also from "(1, 2)", which is what transformers' files make of a tuple that
    is a key.
    """
    if isinstance(ids, str) and ids[:1] + ids[-1:] == "()":
        return [whole(int(i)) for i in ids[1:-1].split(",") if i.strip()]
    return whole_ids(ids)


def _mapping(value: Any) -> Mapping[str, Any]:
    """The values of a mapping, or of an object of transformers."""
    if isinstance(value, Mapping):
        return value
    if not callable(getattr(value, "to_dict", None)):
        raise TypeError("must be a mapping")
    values: Mapping[str, Any] = value.to_dict()
    return values


def _write_message(message: Any, values: Mapping[str, Any]) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"has no {name!r}; it takes {', '.join(fields)}")
        if value is None:
            continue
        try:
            if isinstance(value, Sequence) and not isinstance(value, str):
                getattr(message, name)[:] = [operator.index(_unboxed(v)) for v in value]
            else:
                setattr(message, name, _scalar(fields[name], value))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{name}={value!r}: {error}") from error


def _read_message(message: Any) -> dict[str, Any]:
    return {
        field.name: list(value) if hasattr(value, "append") else value
        for field, value in message.ListFields()
    }


def _scalar(field: Any, value: Any) -> Any:
    value = _unboxed(value)
    if field.cpp_type == field.CPPTYPE_UINT32:
        return whole(value)
    if field.cpp_type == field.CPPTYPE_UINT64:
        return whole(value, UINT64_MAX)
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
        return _signed(value)
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        return _finite(value)
    wanted = bool if field.cpp_type == field.CPPTYPE_BOOL else str
    if not isinstance(value, wanted):
        raise TypeError(f"must be of type {wanted.__name__}")
    return value


def _signed(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("must be a whole number, not a boolean")
    return operator.index(value)


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
