"""Which value a parameter has when the call does not set it.

Order of precedence, as in transformers: the call, then the model's own generation config, then (of
caches) the service's settings, then transformers' defaults. Knows nothing of prompts.
"""

import logging
from collections.abc import Mapping
from typing import Any

from foredraft._fields import write
from foredraft.v1 import generation_pb2
from foredraft_engine.errors import ModelError

log = logging.getLogger(__name__)

Config = generation_pb2.GenerationConfig

_TRANSFORMERS: dict[str, Any] = {
    "do_sample": False,
    "num_return_sequences": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "remove_invalid_values": False,
    "num_assistant_tokens": 20,
    "assistant_confidence_threshold": 0.4,
    "max_matching_ngram_size": 2,
    "num_beams": 1,
    "length_penalty": 1.0,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
}
DEFAULT_NEW_TOKENS = 20
# Values by which transformers' own configs say "off".
_NEUTRAL: dict[str, Any] = {
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
}
# No matter of a single request: how transformers itself runs, and what a config says of itself.
_NOT_ABOUT_TEXT = frozenset(
    [
        "transformers_version",
        "use_cache",
        "cache_implementation",
        "cache_config",
        "max_cache_len",
        "return_dict_in_generate",
        "output_scores",
        "output_logits",
        "output_attentions",
        "output_hidden_states",
        "is_assistant",
        "compile_config",
        "disable_compile",
        "prefill_chunk_size",
        "decoder_start_token_id",
        "trust_remote_code",
    ]
)


def model_config(name: str, values: Mapping[str, Any]) -> Config:
    """What a model's generation_config.json sets, as a wire config.

    Raises:
        ModelError: it asks for a way of decoding that is not served; running it otherwise would
            change what the model is meant to say.
    """
    config = Config()
    quantized = (
        values.get("cache_implementation") == "quantized"
    )  # the one kind that changes the text
    for field, value in values.items():
        ignored = field in _NOT_ABOUT_TEXT and not (
            quantized and field in ("cache_implementation", "cache_config")
        )
        if value is None or field.startswith("_") or ignored or _NEUTRAL.get(field) == value:
            continue
        if field not in Config.DESCRIPTOR.fields_by_name:
            raise ModelError(
                f"{name}: its generation_config.json sets {field}={value!r}, which is not supported; "
                "serve a copy of the model directory without that field"
            )
        try:
            write(config, field, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{name}: its generation_config.json sets {field}={value!r}: {error}"
            ) from error
    return config


def fill_cache(config: Config, service: Config) -> None:
    """Adds what the service's operator says of caches where the model's own config says nothing."""
    if not config.HasField("cache_implementation"):
        config.MergeFrom(service)


def fill(config: Config, model: Config) -> Config:
    """The call's config with the model's values, then transformers' defaults, where it sets
    nothing.
    """
    full = Config()
    full.CopyFrom(config)
    for descriptor, value in model.ListFields():
        name = descriptor.name
        if name in ("max_length", "max_new_tokens", "min_length", "min_new_tokens"):
            continue  # lengths depend on one another: see `target_service.request.plan`
        if not full.HasField(name):
            if descriptor.message_type:
                getattr(full, name).CopyFrom(value)
            else:
                setattr(full, name, value)
    if not full.HasField("num_assistant_tokens_schedule"):
        # Who says how many tokens has them in every round, as in transformers; who does not has
        # what is fastest.
        full.num_assistant_tokens_schedule = (
            "constant" if full.HasField("num_assistant_tokens") else "goodput"
        )
    for name, value in _TRANSFORMERS.items():
        if not full.HasField(name):
            setattr(full, name, value)
    return full
