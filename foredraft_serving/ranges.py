"""What values the fields of a generation config may have, each by itself; both services refuse the
others.

Knows nothing of models, nor of fields that contradict one another.
"""

import math
from collections.abc import Callable, Sequence

from foredraft.v1 import draft_pb2, generation_pb2
from foredraft_engine.errors import InvalidFieldError

MAX_SEQUENCES = 256
MAX_BEAMS = 64
MAX_DRAFT_LENGTH = 256
MAX_OUTCOMES = 256
MAX_ALTERNATIVES = 64
# More would hold up the step of everybody else.
_MAX_ENTRIES = 1024
_MAX_STOP_STRINGS, _MAX_STOP_STRING_LENGTH = 64, 1024
_SCHEDULES = ("goodput", "constant", "heuristic", "heuristic_transient")

_SEEDING_SCHEMES = ("lefthash", "selfhash")
# From least to most.
_MARKS: dict[str, dict[str, tuple[float, float]]] = {
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

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_length": (lambda x: x > 0, "must be at least 1"),
    "max_new_tokens": (lambda x: x > 0, "must be at least 1"),
    "max_time": (lambda x: x > 0, "must be a positive number of seconds"),
    "num_return_sequences": (
        lambda x: 1 <= x <= MAX_SEQUENCES,
        f"must be between 1 and {MAX_SEQUENCES}",
    ),
    "temperature": (
        lambda x: x > 0,
        "must be positive; for the most likely token set do_sample=False",
    ),
    "top_p": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "min_p": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "top_h": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "typical_p": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "epsilon_cutoff": (lambda x: 0 <= x < 1, "must be in [0, 1)"),
    "eta_cutoff": (lambda x: 0 <= x < 1, "must be in [0, 1)"),
    "repetition_penalty": (lambda x: x > 0, "must be positive"),
    "assistant_confidence_threshold": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "num_assistant_tokens": (
        lambda x: x <= MAX_DRAFT_LENGTH,
        f"must be at most {MAX_DRAFT_LENGTH}",
    ),
    "prompt_lookup_num_tokens": (
        lambda x: 1 <= x <= MAX_DRAFT_LENGTH,
        f"must be between 1 and {MAX_DRAFT_LENGTH}; leave it out for no lookup",
    ),
    "guidance_scale": (lambda x: x >= 0, "must not be negative"),
    "num_beams": (lambda x: 1 <= x <= MAX_BEAMS, f"must be between 1 and {MAX_BEAMS}"),
    "num_beam_groups": (lambda x: 1 <= x <= MAX_BEAMS, f"must be between 1 and {MAX_BEAMS}"),
    "diversity_penalty": (lambda x: x >= 0, "must not be negative"),
    "penalty_alpha": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "max_matching_ngram_size": (lambda x: 1 <= x <= 1024, "must be between 1 and 1024"),
}


def check_ranges(config: generation_pb2.GenerationConfig, vocabulary_size: int) -> None:
    """Checks every field that is set.

    Raises:
        InvalidFieldError: a number out of range, NaN or infinite, an id outside the vocabulary, too
            many entries.
    """
    for descriptor, value in config.ListFields():
        name = descriptor.name
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidFieldError(name, f"is {value}")
        if name in _RANGES and not _RANGES[name][0](value):
            raise InvalidFieldError(name, f"is {value:g}; it {_RANGES[name][1]}")
    for name in ("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id"):
        check_ids(name, getattr(config, name).ids, vocabulary_size)
    if config.HasField("forced_bos_token_id"):
        check_ids("forced_bos_token_id", [config.forced_bos_token_id], vocabulary_size)
    for name in ("bad_words_ids", "sequence_bias"):
        entries = getattr(config, name).values
        if len(entries) > _MAX_ENTRIES:
            raise InvalidFieldError(
                name, f"has {len(entries)} entries; it takes up to {_MAX_ENTRIES}"
            )
        for entry in entries:
            if not entry.ids:
                raise InvalidFieldError(name, "has an empty sequence")
            check_ids(name, entry.ids, vocabulary_size)
    if any(not math.isfinite(entry.bias) for entry in config.sequence_bias.values):
        raise InvalidFieldError(
            "sequence_bias", "has a bias that is no finite number; to ban a token use bad_words_ids"
        )
    if not math.isfinite(config.exponential_decay_length_penalty.factor):
        raise InvalidFieldError(
            "exponential_decay_length_penalty", "has a factor that is no finite number"
        )
    if config.HasField("watermarking_config"):
        check_watermark(config.watermarking_config)
    _check_stop_strings(config.stop_strings.values)
    schedule = config.num_assistant_tokens_schedule
    if config.HasField("num_assistant_tokens_schedule") and schedule not in _SCHEDULES:
        raise InvalidFieldError(
            "num_assistant_tokens_schedule", f"is not one of {', '.join(_SCHEDULES)}"
        )


def check_watermark(message: generation_pb2.WatermarkingConfig) -> None:
    """Checks a watermark.

    Raises:
        InvalidFieldError: it is none, or would take more time and memory than a mark may.
    """
    scheme = message.WhichOneof("scheme")
    if scheme is None:
        raise InvalidFieldError(
            "watermarking_config", "has no scheme: that of a green list, or SynthID's"
        )
    mark = getattr(message, scheme)
    for name, (least, most) in _MARKS[scheme].items():
        value = len(mark.keys) if name == "keys" else getattr(mark, name)
        if (name == "keys" or mark.HasField(name)) and not least <= value <= most:
            raise InvalidFieldError(
                "watermarking_config", f"{name} is {value:g}; it must be from {least:g} to {most:g}"
            )
    if (
        scheme == "greenlist"
        and mark.HasField("seeding_scheme")
        and mark.seeding_scheme not in _SEEDING_SCHEMES
    ):
        reason = f"seeding_scheme is {mark.seeding_scheme!r}; it must be one of {', '.join(_SEEDING_SCHEMES)}"
        raise InvalidFieldError("watermarking_config", reason)
    if scheme == "synth_id" and not mark.HasField("ngram_len"):
        raise InvalidFieldError("watermarking_config", "ngram_len is missing")


def check_ids(field: str, ids: Sequence[int], vocabulary_size: int) -> None:
    """Checks token ids.

    Raises:
        InvalidFieldError: one is outside the vocabulary.
    """
    if ids and max(ids) >= vocabulary_size:
        raise InvalidFieldError(
            field, f"id {max(ids)} is outside the vocabulary of {vocabulary_size} tokens"
        )


def check_asked(message: draft_pb2.Open | draft_pb2.Commit) -> None:
    """Checks how much is asked of a draft.

    Raises:
        InvalidFieldError: no step has room for so much, or nobody would verify it.
    """
    limits = {"k": MAX_DRAFT_LENGTH, "outcomes": MAX_OUTCOMES, "alternatives": MAX_ALTERNATIVES}
    for field, limit in limits.items():
        if (asked := getattr(message, field)) > limit:
            raise InvalidFieldError(field, f"is {asked}; it must be at most {limit}")


def _check_stop_strings(strings: Sequence[str]) -> None:
    if len(strings) > _MAX_STOP_STRINGS:
        raise InvalidFieldError(
            "stop_strings", f"has {len(strings)} strings; it takes up to {_MAX_STOP_STRINGS}"
        )
    if any(not 0 < len(s) <= _MAX_STOP_STRING_LENGTH for s in strings):
        raise InvalidFieldError(
            "stop_strings", f"has a string that is empty, or longer than {_MAX_STOP_STRING_LENGTH}"
        )
