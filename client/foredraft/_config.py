"""Generation parameters: Hugging Face's names and meanings, checked before anything is sent.

Knows nothing of the model: what it cannot honour, the service refuses.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft.v1 import generation_pb2

_ID_LISTS = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id")
# Of transformers' config: how it runs itself, not what is said.
_NOT_ABOUT_TEXT = frozenset(
    "transformers_version use_cache return_dict_in_generate is_assistant compile_config disable_compile "
    "prefill_chunk_size trust_remote_code".split()
)
# Values by which transformers' config says "off" to what is not supported.
_OFF: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "penalty_alpha": 0.0,
    "diversity_penalty": 0.0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "guidance_scale": 1.0,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "low_memory": False,
    "token_healing": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """Parameters of a generation. None leaves the choice to the model's own config, then to transformers' default.

    The meanings are those of `transformers.GenerationConfig`, which is accepted wherever this is.
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    max_time: float | None = None
    stop_strings: str | Sequence[str] | None = None
    do_sample: bool | None = None
    num_return_sequences: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_h: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    bad_words_ids: Sequence[Sequence[int]] | None = None
    sequence_bias: Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    remove_invalid_values: bool | None = None
    renormalize_logits: bool | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    num_assistant_tokens: int | None = None
    num_assistant_tokens_schedule: str | None = None
    assistant_confidence_threshold: float | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None


FIELDS = tuple(f.name for f in fields(GenerationConfig))


def config_message(config: Any, overrides: Mapping[str, Any]) -> generation_pb2.GenerationConfig:
    """The wire's form of a config (ours, transformers' or None) with keyword arguments over it.

    Raises:
        InvalidRequestError: a field that is unknown, not supported, or of no possible value.
    """
    values = {**_values(config), **overrides}
    message = generation_pb2.GenerationConfig()
    for name, value in values.items():
        if value is None:
            continue
        if name not in FIELDS:
            if name in _OFF and value == _OFF[name]:
                continue
            raise InvalidRequestError(
                f"{name}={value!r} is not supported; leave it out (supported: {', '.join(FIELDS)})", field=name
            )
        try:
            _assign(message, name, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{name}={value!r}: {error}", field=name) from error
    return message


def _values(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, GenerationConfig):
        return {name: getattr(config, name) for name in FIELDS if getattr(config, name) is not None}
    if isinstance(config, str):
        raise InvalidRequestError(
            f"generation_config={config!r}: named configs are not supported yet; pass the fields", field="generation_config"
        )
    if not hasattr(config, "to_dict"):
        raise InvalidRequestError(f"{type(config).__name__} is no generation config", field="generation_config")
    given: dict[str, Any] = config.to_dict()
    return {k: v for k, v in given.items() if v is not None and not k.startswith("_") and k not in _NOT_ABOUT_TEXT}


def _assign(message: generation_pb2.GenerationConfig, name: str, value: Any) -> None:
    if name in _ID_LISTS:
        ids = getattr(message, name)
        ids.SetInParent()
        ids.ids.extend([value] if isinstance(value, int) else [int(i) for i in value])
    elif name == "stop_strings":
        message.stop_strings.values.extend([value] if isinstance(value, str) else value)
    elif name == "bad_words_ids":
        message.bad_words_ids.extend(generation_pb2.TokenIds(ids=ids) for ids in value)
    elif name == "sequence_bias":
        pairs = value.items() if isinstance(value, Mapping) else value
        message.sequence_bias.extend(generation_pb2.SequenceBias(ids=ids, bias=bias) for ids, bias in pairs)
    else:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        setattr(message, name, value)
