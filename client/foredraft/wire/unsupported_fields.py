"""The table of what transformers' `generate` takes and foredraft does not.

A parameter is never ignored, since that would change the text without a word: each is refused with
a way out, unless its value asks for nothing. This module knows nothing of requests.
"""

from dataclasses import dataclass

_NOT_SERVED = "this way of decoding is not served; leave it out"
_NOT_OFFERED = "not offered by this version; leave it out"
_INSIDE = "the service keeps what is inside the model; leave it out"
_OPERATOR = "how the model is run is the choice of whoever runs the service; leave it out"
_CODE = "code does not travel to the service; leave it out, or use the parameters that do its work"
_SERVICE = "the service has its own; leave it out"
_PROMPT = "pass the prompt as the first argument, without padding"
_RESULT = "a Result holds everything, whether True or False"


@dataclass(frozen=True, slots=True)
class UnsupportedField:
    """A parameter of transformers that foredraft refuses."""

    name: str
    way_out: str
    off: tuple[object, ...] = ()
    """The values that ask for nothing."""
    in_model_config: bool = False
    """Whether a model's own generation_config.json may hold any value, since it says how
    transformers runs the model and nothing about the text.
    """
    changes_text: bool = False
    """Whether a model's own generation_config.json could change the text with it."""

    def is_off(self, value: object) -> bool:
        """Whether a value asks for nothing."""
        if value is None or value == []:
            return True
        # 1 == True in Python: a number turns off what a number of this type turns off.
        return any(value == off and type(value) is type(off) for off in self.off)


UNSUPPORTED_FIELDS = {
    field.name: field
    for field in (
        UnsupportedField("constraints", _NOT_SERVED, changes_text=True),
        UnsupportedField("force_words_ids", _NOT_SERVED, changes_text=True),
        UnsupportedField("dola_layers", _NOT_SERVED, changes_text=True),
        UnsupportedField("low_memory", _NOT_SERVED, off=(False,)),
        UnsupportedField("assistant_early_exit", _NOT_SERVED),
        UnsupportedField("use_mtp", _NOT_SERVED, off=(False,)),
        UnsupportedField("speculation_type", _NOT_SERVED),
        UnsupportedField("assistant_ensemble_weight", _NOT_SERVED),
        UnsupportedField("custom_generate", _NOT_SERVED),
        UnsupportedField("return_dict_in_generate", _RESULT, (True, False), in_model_config=True),
        UnsupportedField("output_attentions", _INSIDE, (False,), in_model_config=True),
        UnsupportedField("output_hidden_states", _INSIDE, (False,), in_model_config=True),
        UnsupportedField("max_cache_len", _OPERATOR, in_model_config=True),
        UnsupportedField("past_key_values", _OPERATOR),
        UnsupportedField("compile_config", _OPERATOR, in_model_config=True),
        UnsupportedField("disable_compile", _OPERATOR, (False,), in_model_config=True),
        UnsupportedField("prefill_chunk_size", _OPERATOR, in_model_config=True),
        UnsupportedField("continuous_batching_config", _OPERATOR),
        UnsupportedField("trust_remote_code", _OPERATOR, in_model_config=True),
        UnsupportedField("use_model_defaults", _OPERATOR),
        UnsupportedField("synced_gpus", _OPERATOR),
        UnsupportedField("logits_processor", _CODE),
        UnsupportedField("prefix_allowed_tokens_fn", _CODE),
        UnsupportedField("tokenizer", _SERVICE),
        UnsupportedField("assistant_model", _SERVICE),
        UnsupportedField("assistant_tokenizer", _SERVICE),
        UnsupportedField("is_assistant", _SERVICE, (False,), in_model_config=True),
        UnsupportedField("input_ids", _PROMPT),
        UnsupportedField("attention_mask", _PROMPT),
        UnsupportedField("inputs_embeds", _PROMPT),
        UnsupportedField("position_ids", _PROMPT),
        UnsupportedField("encoder_repetition_penalty", _NOT_OFFERED, (1, 1.0), changes_text=True),
        UnsupportedField("encoder_no_repeat_ngram_size", _NOT_OFFERED, (0,), changes_text=True),
        UnsupportedField("decoder_start_token_id", _NOT_OFFERED, in_model_config=True),
        UnsupportedField("assistant_lookbehind", _NOT_OFFERED, (10,)),
        UnsupportedField("target_lookbehind", _NOT_OFFERED, (10,)),
    )
}
"""All parameters that are refused, by name."""
NOTES = frozenset(["transformers_version"])
"""What a config says about itself; so does every name that begins with an underscore."""
