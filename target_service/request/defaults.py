"""The second stage of a request: the value of each field that the call does not set.

The order of precedence is that of transformers: the call, the model's own generation config, the
service's settings (for caches), the defaults of transformers. This module knows nothing of prompts.
"""

from foredraft.v1 import generation_pb2
from foredraft.wire import GENERATION_FIELDS

Config = generation_pb2.GenerationConfig

DEFAULT_NEW_TOKENS = 20
_FIXED_NGRAM, _LONGEST_NGRAM = 2, 16
# These depend on one another and on the prompt: `target_service.request.lengths` resolves them.
_LENGTHS = frozenset(["max_length", "max_new_tokens", "min_length", "min_new_tokens"])


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
    if not full.HasField("max_matching_ngram_size"):
        # Only a lookup by itself goes by transformers' default, for proposals of a fixed length.
        fixed = full.HasField("prompt_lookup_num_tokens")
        full.max_matching_ngram_size = _FIXED_NGRAM if fixed else _LONGEST_NGRAM
    for field in GENERATION_FIELDS.values():
        if field.default is not None and not full.HasField(field.name):
            setattr(full, field.name, field.default)
    return full
