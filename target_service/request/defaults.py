"""The second stage of a request: the value of each field that the call does not set.

The order of precedence is that of transformers: the call, the model's own generation config, the
service's settings (for caches), the defaults of transformers. This module knows nothing of prompts.
"""

from collections.abc import Mapping
from typing import Any

from foredraft.v1 import generation_pb2
from foredraft.wire import GENERATION_FIELDS, UNSUPPORTED_FIELDS, write
from foredraft.wire.config import is_note
from foredraft_engine.errors import ModelError

Config = generation_pb2.GenerationConfig

DEFAULT_NEW_TOKENS = 20
# These depend on one another and on the prompt: `target_service.request.lengths` resolves them.
_LENGTHS = frozenset(["max_length", "max_new_tokens", "min_length", "min_new_tokens"])


def model_config(name: str, values: Mapping[str, Any]) -> Config:
    """Returns what a model's generation_config.json sets, as a message.

    Raises:
        ModelError: the file asks for a way of decoding that is not served. Serving the model
            without it would change what the model is meant to say.
    """
    config = Config()
    quantized = values.get("cache_implementation") == "quantized"  # the one cache that changes text
    for field, value in values.items():
        if value is None or is_note(field):
            continue
        declared, refused = GENERATION_FIELDS.get(field), UNSUPPORTED_FIELDS.get(field)
        if declared is None:
            if refused and (refused.in_model_config or refused.is_off(value)):
                continue
            raise ModelError(
                f"{name}: its generation_config.json sets {field}={value!r}, which is not "
                "supported; serve a copy of the model directory without that field"
            )
        if not declared.changes_text and not (quantized and field.startswith("cache_")):
            continue
        try:
            write(config, field, value)
        except (TypeError, ValueError, OverflowError) as error:
            reason = f"{name}: its generation_config.json sets {field}={value!r}: {error}"
            raise ModelError(reason) from error
    return config


def fill_cache(config: Config, service: Config) -> None:
    """Adds the service's settings of caches where the model's own config has none."""
    if not config.HasField("cache_implementation"):
        config.MergeFrom(service)


def fill(asked: Config, model: Config) -> Config:
    """Returns the call's config with the model's values, then transformers' defaults, filled in.

    Lengths stay out, since they depend on the prompt.
    """
    full = Config()
    full.CopyFrom(asked)
    for descriptor, value in model.ListFields():
        name = descriptor.name
        if name in _LENGTHS or full.HasField(name):
            continue
        if descriptor.message_type:
            getattr(full, name).CopyFrom(value)
        else:
            setattr(full, name, value)
    if not full.HasField("num_assistant_tokens_schedule"):
        # A call that sets the number of tokens drafts that many in every round, as in transformers.
        is_set = full.HasField("num_assistant_tokens")
        full.num_assistant_tokens_schedule = "constant" if is_set else "goodput"
    for field in GENERATION_FIELDS.values():
        if field.default is not None and not full.HasField(field.name):
            setattr(full, field.name, field.default)
    return full
