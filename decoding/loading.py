"""Loads a model directory (or hub id): weights, tokenizer, configs. Knows nothing of rows or requests."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from decoding.errors import ModelError
from decoding.vocabulary import Vocabulary

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# RoPE whose frequencies follow the longest position in the batch: what a token means would depend on
# its neighbours. Up to the original length the frequencies are fixed, so that is what is served.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder-only causal LM in evaluation mode, with its language."""

    name: str
    module: nn.Module
    tokenizer: Any
    vocabulary: Vocabulary
    max_length: int
    length_note: str = ""

    @property
    def text_config(self) -> Any:
        """The config of the text decoder."""
        return self.module.config.get_text_config()  # type: ignore[union-attr, operator]

    @property
    def generation_config(self) -> Any:
        """The model's own transformers.GenerationConfig."""
        return self.module.generation_config


def load(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a model from a directory or by hub id; weights from safetensors only.

    Raises:
        ModelError: it is missing, of a kind that cannot be served, or without a tokenizer.
    """
    origin: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(name, **origin)
        _refuse(name, config)
        tokenizer = AutoTokenizer.from_pretrained(name, **origin)
        module = AutoModelForCausalLM.from_pretrained(name, dtype=DTYPES[dtype], use_safetensors=True, **origin)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot load {name!r}: {reason}") from error
    if getattr(module, "_is_stateful", False):
        raise ModelError(f"cannot serve {name!r}: {config.model_type} keeps a running state that cannot be rolled back")
    module = module.to(device).eval()
    max_length, note = _max_length(module.config.get_text_config())
    return LoadedModel(name, module, tokenizer, Vocabulary.of(tokenizer), max_length, note)


def _refuse(name: str, config: Any) -> None:
    if config.is_encoder_decoder:
        raise ModelError(f"cannot serve {name!r}: {config.model_type} is an encoder-decoder, not a decoder-only LM")
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ())
    if stateful := sorted(k for k in kinds if "linear" in k or k in ("mamba", "conv", "recurrent", "hybrid")):
        raise ModelError(
            f"cannot serve {name!r}: {config.model_type}'s layers of type {', '.join(stateful)} keep a "
            "running state that a rejected proposal cannot be taken out of"
        )


def _max_length(config: Any) -> tuple[int, str]:
    """The longest sequence that is served, and why it is shorter than the model's own if it is."""
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1 << 20
    rope = getattr(config, "rope_parameters", None) or {}
    # One set of parameters, or one for each type of layer.
    for parameters in [rope] if "rope_type" in rope else rope.values():
        if (kind := parameters.get("rope_type")) in _LENGTH_DEPENDENT_ROPE:
            original = parameters.get("original_max_position_embeddings") or limit
            return original, f"{kind} RoPE depends on the longest position in a batch past {original} tokens"
    return limit, ""
