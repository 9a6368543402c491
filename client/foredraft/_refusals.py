"""What transformers' `generate` takes and a foredraft service does not, and the way out of each.

Knows nothing of requests. A parameter is never ignored: that would change what is said without a
word.
"""

import difflib
from typing import Any

from foredraft._config import FIELDS
from foredraft._errors import InvalidRequestError

# Values by which transformers' config says "off" to what is not supported: its own defaults.
_OFF: dict[str, Any] = {
    "assistant_lookbehind": 10,
    "disable_compile": False,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "is_assistant": False,
    "low_memory": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "target_lookbehind": 10,
    "use_mtp": False,
}
_WAYS_OUT = {
    "this way of decoding is not served; leave it out": (
        "constraints force_words_ids dola_layers low_memory assistant_early_exit use_mtp speculation_type "
        "assistant_ensemble_weight custom_generate"
    ),
    "a Result holds everything, whether True or False": "return_dict_in_generate",
    "the service keeps what is inside the model; leave it out": "output_attentions output_hidden_states",
    "how the model is run is the choice of whoever runs the service; leave it out": (
        "max_cache_len past_key_values compile_config "
        "disable_compile prefill_chunk_size continuous_batching_config trust_remote_code "
        "use_model_defaults synced_gpus"
    ),
    "code does not travel to the service; leave it out, or use the parameters that do its work": (
        "logits_processor prefix_allowed_tokens_fn"
    ),
    "the service has its own; leave it out": "tokenizer assistant_model assistant_tokenizer is_assistant",
    "pass the prompt as the first argument, without padding": (
        "input_ids attention_mask inputs_embeds position_ids"
    ),
    "not offered by this version; leave it out": (
        "encoder_repetition_penalty encoder_no_repeat_ngram_size decoder_start_token_id assistant_lookbehind "
        "target_lookbehind"
    ),
}
_WAY_OUT = {name: way for way, names in _WAYS_OUT.items() for name in names.split()}


def is_off(name: str, value: Any) -> bool:
    """Whether a parameter that is not supported asks for nothing."""
    if name == "return_dict_in_generate":
        return isinstance(value, bool)  # a Result holds everything, either way
    if isinstance(value, bool | int | float):
        return name in _OFF and bool(value == _OFF[name])
    return value is None or value == []


def refusal(name: str, value: Any) -> InvalidRequestError:
    """The error for a parameter that cannot be honoured."""
    if name in _WAY_OUT:
        return InvalidRequestError(
            f"{name}={value!r} is not supported: {_WAY_OUT[name]}", field=name
        )
    near = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidRequestError(
        f"{name!r} is no generation parameter, nor an argument of this call{hint}", field=name
    )
