"""Which models can be served, and how long their sequences may be, by their configs."""

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from foredraft_engine.errors import ModelError

# Kinds of RoPE whose frequencies follow the longest position in the batch: a token's logits would
# depend on other sequences. Up to the original length the frequencies are fixed, and only such
# sequences are served.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


def check_kind(name: str, config: Any) -> None:
    """Refuses models that are not decoder-only, and those with a running state.

    Raises:
        ModelError: the model is one.
    """
    if config.is_encoder_decoder:
        raise ModelError(
            f"cannot serve {name!r}: {config.model_type} is an encoder-decoder; use a decoder-only "
            "language model"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not hasattr(config, "auto_map"):
        raise ModelError(
            f"cannot serve {name!r}: {config.model_type} is no causal language model; use one"
        )
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ())
    if stateful := sorted(
        k for k in kinds if "linear" in k or k in ("mamba", "conv", "recurrent", "hybrid")
    ):
        raise ModelError(
            f"cannot serve {name!r}: the layers of {config.model_type} of type "
            f"{', '.join(stateful)} keep a running state, which cannot be rolled back after a "
            "rejection; use a model with attention layers only"
        )


def check_stateless(name: str, model: Any) -> None:
    """Refuses models whose config does not say that they have a running state.

    Raises:
        ModelError: the model is one.
    """
    if getattr(model, "_is_stateful", False):
        raise ModelError(
            f"cannot serve {name!r}: {model.config.model_type} keeps a running state that cannot "
            "be rolled back; use a model with attention layers only"
        )


def longest_sequence(config: Any) -> tuple[int, str]:
    """Returns the longest length of a sequence, and why it is less than the model's own maximum."""
    limit = (
        getattr(config, "max_position_embeddings", None)
        or getattr(config, "n_positions", None)
        or 1 << 20
    )
    rope = getattr(config, "rope_parameters", None) or {}
    # There is one set of parameters, or one for each type of layer, which may be None.
    for parameters in [rope] if "rope_type" in rope else filter(None, rope.values()):
        if (kind := parameters.get("rope_type")) in _LENGTH_DEPENDENT_ROPE:
            original = parameters.get("original_max_position_embeddings") or limit
            return (
                original,
                f"{kind} RoPE depends on the longest position in a batch past {original} tokens",
            )
    return limit, ""
