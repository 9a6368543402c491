"""Checks the values of a generation config, each by itself; both services refuse the same values.

This module knows nothing of models, nor of fields that contradict one another.
"""

import math
from collections.abc import Iterator, Sequence

from foredraft.v1 import draft_pb2, generation_pb2
from foredraft.wire import GENERATION_FIELDS, Field, Kind
from foredraft.wire.limits import (
    MAX_ALTERNATIVES,
    MAX_DRAFT_LENGTH,
    MAX_OUTCOMES,
    MAX_RESPONSE_FORMAT_BYTES,
    MAX_SEQUENCES_OF_IDS,
    MAX_STOP_STRING_LENGTH,
    MAX_STOP_STRINGS,
)
from foredraft_engine.errors import InvalidFieldError

_SEEDING_SCHEMES = ("lefthash", "selfhash")
# The least and the largest value of each parameter; of `keys`, the number of keys.
_WATERMARKS: dict[str, dict[str, tuple[float, float]]] = {
    "greenlist": {
        "greenlist_ratio": (1e-3, 0.999),
        "bias": (-100.0, 100.0),
        "hashing_key": (1, 2**40),
        "context_width": (1, 64),
        "vocabulary_size": (1, 1 << 22),
    },
    "synth_id": {
        "ngram_len": (2, 32),
        "keys": (1, 64),
        "context_history_size": (1, 1 << 20),
        "sampling_table_seed": (0, 2**62),
        "sampling_table_size": (2, 1 << 20),
    },
}


def check_ranges(config: generation_pb2.GenerationConfig, vocabulary_size: int) -> None:
    """Checks every field that is set.

    Raises:
        InvalidFieldError: a number is out of range, NaN or infinite, an id is outside the
            vocabulary, or a list has too many entries.
    """
    for descriptor, value in config.ListFields():
        field = GENERATION_FIELDS[descriptor.name]
        says = "is" if isinstance(value, int | float) else "has"
        for number in _numbers(value):
            if not math.isfinite(number):
                raise InvalidFieldError(field.name, f"{says} {number}, which is not finite")
            if field.range and number not in field.range:
                raise InvalidFieldError(field.name, f"{says} {number:g}; it {field.range.rule}")
        if field.choices and value not in field.choices:
            raise InvalidFieldError(field.name, f"is not one of {', '.join(field.choices)}")
        _check_kind(field, value, vocabulary_size)


def _numbers(value: object) -> Iterator[float]:
    """Yields the numbers of a value that a range is for."""
    match value:
        case bool():
            return
        case int() | float():
            yield value
        case generation_pb2.ExponentialDecay():
            yield value.factor
        case generation_pb2.SequenceBiasList():
            yield from (entry.bias for entry in value.values)
        case generation_pb2.TokenBiases():
            yield from value.values.values()


def _check_kind(field: Field, value: object, vocabulary_size: int) -> None:
    match value:
        case generation_pb2.TokenIds():
            check_ids(field.name, value.ids, vocabulary_size)
        case int() if field.kind is Kind.TOKEN_ID and field.in_sampling:
            check_ids(field.name, [value], vocabulary_size)
        case generation_pb2.TokenIdsList() | generation_pb2.SequenceBiasList():
            _check_sequences(field.name, value, vocabulary_size)
        case generation_pb2.TokenBiases():
            check_ids(field.name, list(value.values), vocabulary_size)
        case generation_pb2.WatermarkingConfig():
            check_watermark(value)
        case generation_pb2.Strings():
            _check_strings(field.name, value.values)
        case generation_pb2.ResponseFormat():
            check_format(field.name, value)


def _check_sequences(
    name: str,
    message: generation_pb2.TokenIdsList | generation_pb2.SequenceBiasList,
    vocabulary_size: int,
) -> None:
    if len(message.values) > MAX_SEQUENCES_OF_IDS:
        reason = f"has {len(message.values)} entries; it takes up to {MAX_SEQUENCES_OF_IDS}"
        raise InvalidFieldError(name, reason)
    for entry in message.values:
        if not entry.ids:
            raise InvalidFieldError(name, "has an empty sequence")
        check_ids(name, entry.ids, vocabulary_size)


def check_watermark(message: generation_pb2.WatermarkingConfig) -> None:
    """Checks the parameters of a watermark.

    Raises:
        InvalidFieldError: there is no scheme, or a parameter is out of range: larger ones would
            take too much time and memory.
    """
    scheme = message.WhichOneof("scheme")
    if scheme is None:
        reason = "has no scheme: that of a green list, or SynthID's"
        raise InvalidFieldError("watermarking_config", reason)
    parameters = getattr(message, scheme)
    for name, (least, most) in _WATERMARKS[scheme].items():
        value = len(parameters.keys) if name == "keys" else getattr(parameters, name)
        if (name == "keys" or parameters.HasField(name)) and not least <= value <= most:
            reason = f"{name} is {value:g}; it must be from {least:g} to {most:g}"
            raise InvalidFieldError("watermarking_config", reason)
    if scheme == "greenlist":
        seeding = parameters.seeding_scheme
        if parameters.HasField("seeding_scheme") and seeding not in _SEEDING_SCHEMES:
            reason = f"seeding_scheme is {seeding!r}; it must be {' or '.join(_SEEDING_SCHEMES)}"
            raise InvalidFieldError("watermarking_config", reason)
    elif not parameters.HasField("ngram_len"):
        raise InvalidFieldError("watermarking_config", "ngram_len is missing")


def check_ids(field: str, ids: Sequence[int], vocabulary_size: int) -> None:
    """Checks token ids.

    Args:
        vocabulary_size: the number of ids that the model knows, see `LoadedModel.known_ids`.

    Raises:
        InvalidFieldError: an id is outside the vocabulary.
    """
    if ids and max(ids) >= vocabulary_size:
        reason = (
            f"id {max(ids)} is outside the vocabulary of {vocabulary_size} tokens that the model "
            "has rows for"
        )
        raise InvalidFieldError(field, reason)


def check_asked(message: draft_pb2.Open | draft_pb2.Commit) -> None:
    """Checks the amounts that a target asks of a draft.

    Raises:
        InvalidFieldError: an amount is more than a step can hold or a target would verify.
    """
    limits = {"k": MAX_DRAFT_LENGTH, "outcomes": MAX_OUTCOMES, "alternatives": MAX_ALTERNATIVES}
    for field, limit in limits.items():
        if (asked := getattr(message, field)) > limit:
            raise InvalidFieldError(field, f"is {asked}; it must be at most {limit}")


def check_format(name: str, message: generation_pb2.ResponseFormat) -> None:
    """Checks the size of a format; whether it can be met is seen when it is compiled.

    Raises:
        InvalidFieldError: it is too large, or holds nothing.
    """
    if (size := message.ByteSize()) > MAX_RESPONSE_FORMAT_BYTES:
        reason = f"has {size} bytes; it has at most {MAX_RESPONSE_FORMAT_BYTES}"
        raise InvalidFieldError(name, reason)
    if message.HasField("choice") and not message.choice.values:
        raise InvalidFieldError(name, "is a choice among no strings")
    if message.HasField("structural_tag"):
        tag = message.structural_tag
        if bool(tag.structures or tag.triggers) == bool(tag.format):
            reason = "is a structural tag, which has either structures or a format"
            raise InvalidFieldError(name, reason)


def _check_strings(name: str, strings: Sequence[str]) -> None:
    if len(strings) > MAX_STOP_STRINGS:
        reason = f"has {len(strings)} strings; it takes up to {MAX_STOP_STRINGS}"
        raise InvalidFieldError(name, reason)
    if any(not 0 < len(s) <= MAX_STOP_STRING_LENGTH for s in strings):
        reason = f"has a string that is empty, or longer than {MAX_STOP_STRING_LENGTH}"
        raise InvalidFieldError(name, reason)
