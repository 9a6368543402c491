"""The values of generation fields onto the wire and back.

The target reads JSON configs with it, too. This module knows nothing of what a value means: the
service refuses what it cannot honour.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from foredraft.v1 import generation_pb2
from foredraft.wire.field import Kind
from foredraft.wire.generation_fields import GENERATION_FIELDS
from foredraft.wire.numbers import UINT64_MAX, finite, signed, single, unboxed, whole, whole_ids
from foredraft.wire.response_format import read_response_format, write_response_format
from foredraft.wire.shown import shown

Config = generation_pb2.GenerationConfig

_WIRE = Config.DESCRIPTOR.fields_by_name
_EARLY_STOPPING: dict[bool | Literal["never"], generation_pb2.EarlyStopping] = {
    False: generation_pb2.EARLY_STOPPING_FALSE,
    True: generation_pb2.EARLY_STOPPING_TRUE,
    "never": generation_pb2.EARLY_STOPPING_NEVER,
}


def write(message: Config, name: str, value: object) -> None:
    """Sets a field of a message from the plain value that transformers' config holds.

    Raises:
        TypeError, ValueError, OverflowError: the field cannot have this value.
    """
    kind = GENERATION_FIELDS[name].kind
    if kind in _PLAIN:
        setattr(message, name, _scalar(_WIRE[name], value))
    elif kind is Kind.EARLY_STOPPING:
        message.early_stopping = _early_stopping(value)
    else:
        _WRITERS[kind](getattr(message, name), value)
        getattr(message, name).SetInParent()  # set and empty differs from not set


def read(name: str, value: object) -> object:
    """Returns the plain value of a field of a message."""
    kind = GENERATION_FIELDS[name].kind
    return value if kind in _PLAIN else _READERS[kind](value)


def read_early_stopping(number: int) -> bool | Literal["never"]:
    """Returns the plain value of `early_stopping`; a number of a newer caller is False."""
    return next((plain for plain, n in _EARLY_STOPPING.items() if n == number), False)


def write_watermark(message: generation_pb2.WatermarkingConfig, value: object) -> None:
    """Sets a watermark from transformers' object or its dictionary; a value with keys is SynthID.

    Raises:
        TypeError, ValueError, OverflowError: the value is no watermark.
    """
    values = _mapping(value)
    scheme = message.synth_id if {"keys", "ngram_len"} & values.keys() else message.greenlist
    _write_message(scheme, values)
    scheme.SetInParent()


def _early_stopping(value: object) -> generation_pb2.EarlyStopping:
    if isinstance(value, bool):
        return _EARLY_STOPPING[value]
    if value == "never":
        return _EARLY_STOPPING["never"]
    raise TypeError("must be True, False or 'never'")


def _write_strings(message: generation_pb2.Strings, value: Any) -> None:
    if not isinstance(value, str | list | tuple):
        raise TypeError("must be a string, or a list of strings")
    message.values[:] = [value] if isinstance(value, str) else value


def _write_ids(message: generation_pb2.TokenIds, value: Any) -> None:
    message.ids[:] = whole_ids(value)


def _write_sequences(message: generation_pb2.TokenIdsList, value: Any) -> None:
    message.values.extend(generation_pb2.TokenIds(ids=whole_ids(ids)) for ids in value)


def _write_biases(message: generation_pb2.SequenceBiasList, value: Any) -> None:
    pairs = value.items() if isinstance(value, Mapping) else value
    message.values.extend(
        generation_pb2.SequenceBias(ids=_sequence(ids), bias=single(bias)) for ids, bias in pairs
    )


def _write_token_biases(message: generation_pb2.TokenBiases, value: Any) -> None:
    for token, bias in value.items() if isinstance(value, Mapping) else value:
        # JSON has strings for the keys of its objects.
        named = int(token) if isinstance(token, str) else token
        message.values[whole(named)] = single(bias)


def _write_decay(message: generation_pb2.ExponentialDecay, value: Any) -> None:
    start, factor = value
    message.start, message.factor = whole(start), finite(factor)


def _write_cache(message: generation_pb2.CacheConfig, value: Any) -> None:
    _write_message(message, _mapping(value))


def _read_watermark(message: generation_pb2.WatermarkingConfig) -> dict[str, Any]:
    scheme = message.WhichOneof("scheme")
    return _read_message(getattr(message, scheme)) if scheme else {}


_PLAIN = frozenset([Kind.BOOL, Kind.UINT, Kind.FLOAT, Kind.STRING, Kind.TOKEN_ID])
_WRITERS: dict[Kind, Callable[[Any, Any], None]] = {
    Kind.STRINGS: _write_strings,
    Kind.TOKEN_IDS: _write_ids,
    Kind.SEQUENCES: _write_sequences,
    Kind.BIASES: _write_biases,
    Kind.TOKEN_BIASES: _write_token_biases,
    Kind.DECAY: _write_decay,
    Kind.WATERMARK: write_watermark,
    Kind.CACHE: _write_cache,
    Kind.RESPONSE_FORMAT: write_response_format,
}
_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.STRINGS: lambda message: tuple(message.values),
    Kind.TOKEN_IDS: lambda message: tuple(message.ids),
    Kind.SEQUENCES: lambda message: tuple(tuple(entry.ids) for entry in message.values),
    Kind.BIASES: lambda message: tuple((tuple(e.ids), e.bias) for e in message.values),
    Kind.TOKEN_BIASES: lambda message: tuple(sorted(message.values.items())),
    Kind.EARLY_STOPPING: read_early_stopping,
    Kind.DECAY: lambda message: (message.start, message.factor),
    Kind.WATERMARK: _read_watermark,
    Kind.CACHE: lambda message: _read_message(message),
    Kind.RESPONSE_FORMAT: read_response_format,
}


def _sequence(ids: Any) -> list[int]:
    """Returns the ids of a sequence.

    transformers' files hold "(1, 2)" where a tuple was the key of a dictionary.
    """
    if isinstance(ids, str) and ids[:1] + ids[-1:] == "()":
        return [whole(int(i)) for i in ids[1:-1].split(",") if i.strip()]
    return whole_ids(ids)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Returns the values of a mapping, or of an object of transformers."""
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
                getattr(message, name)[:] = [signed(v) for v in value]
            else:
                setattr(message, name, _scalar(fields[name], value))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{name}={shown(value)}: {error}") from error


def _read_message(message: Any) -> dict[str, Any]:
    return {
        field.name: list(value) if hasattr(value, "append") else value
        for field, value in message.ListFields()
    }


def _scalar(field: Any, value: Any) -> Any:
    value = unboxed(value)
    if field.cpp_type == field.CPPTYPE_UINT32:
        return whole(value)
    if field.cpp_type == field.CPPTYPE_UINT64:
        return whole(value, UINT64_MAX)
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
        return signed(value)
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        return finite(value)
    wanted = bool if field.cpp_type == field.CPPTYPE_BOOL else str
    if not isinstance(value, wanted):
        raise TypeError(f"must be of type {wanted.__name__}")
    return value
