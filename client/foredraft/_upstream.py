"""A generation config as transformers' own object, which goes to a hub or into `model.generate`.

This module imports transformers when it is asked for such an object. It knows nothing of calls.
"""

from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft._generation_config import GenerationConfig
from foredraft.wire.config import config_from, config_message
from foredraft.wire.generation_fields import GENERATION_FIELDS

_FIELD = "generation_config"


def upstream_config(config: GenerationConfig) -> Any:
    """Returns an equal `transformers.GenerationConfig`; what is None here is None there.

    Raises:
        InvalidRequestError: transformers is not installed, refuses the config, or lacks what a
            field asks for.
    """
    try:
        import transformers
    except ImportError as error:
        message = "to_transformers: transformers is not installed; pip install transformers"
        raise InvalidRequestError(message) from error
    if config.num_assistant_tokens_schedule == "goodput":
        name = "num_assistant_tokens_schedule"
        message = (
            f"{name}='goodput' is foredraft's own; for transformers set 'constant' or leave it out"
        )
        raise InvalidRequestError(message, field=name)
    plain = config_from(
        config_message(config, {})
    )  # The protobuf message checks every field on the way.
    values = {
        name: _listed(value)
        for name in plain.__slots__
        if (value := getattr(plain, name)) is not None
    }
    for name in [name for name in values if not GENERATION_FIELDS[name].in_transformers]:
        if values.pop(name) not in GENERATION_FIELDS[name].off:
            message = f"{name} is no field of transformers; leave it out"
            raise InvalidRequestError(message, field=name)
    if values.get("output_scores") or values.get("output_logits"):
        # transformers ignores the two fields without this one
        values["return_dict_in_generate"] = True
    try:
        if watermark := values.get("watermarking_config"):
            synth_id = {"keys", "ngram_len"} & watermark.keys()
            kind = (
                transformers.SynthIDTextWatermarkingConfig
                if synth_id
                else transformers.WatermarkingConfig
            )
            values["watermarking_config"] = kind(**watermark)
        return transformers.GenerationConfig(**values)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{_FIELD}: transformers refuses it: {error}", field=_FIELD
        ) from error


def _listed(value: Any) -> Any:
    """Returns lists in place of tuples, also inside tuples, as transformers has them."""
    return [_listed(v) for v in value] if isinstance(value, tuple) else value
