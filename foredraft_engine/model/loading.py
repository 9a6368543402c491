"""Loads the weights, tokenizer and configs of a model, from a directory or by hub id.

This module knows nothing of rows or requests.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)

from foredraft_engine.errors import ModelError
from foredraft_engine.model.dtypes import dtype_for
from foredraft_engine.model.generation_config import readable_generation_config
from foredraft_engine.vocabulary import Vocabulary

log = logging.getLogger(__name__)

T = TypeVar("T")

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
_NO_TOKENIZER = "it has no tokenizer; put the model's tokenizer.json next to config.json"
# Kinds of RoPE whose frequencies follow the longest position in the batch: a token's logits would
# depend on other sequences. Up to the original length the frequencies are fixed, and only such
# sequences are served.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder-only causal LM in evaluation mode, with its tokenizer."""

    name: str
    """The model directory or hub id."""
    module: nn.Module
    tokenizer: Any
    """The tokenizer of transformers."""
    vocabulary: Vocabulary
    max_length: int
    """The largest number of tokens in a sequence."""
    length_note: str = ""
    """Why this is less than the model's own maximum; empty if it is not."""
    dtype: str = "float32"
    """The data type of the weights."""
    dtype_note: str = ""
    """Why it is not the checkpoint's own, if it was to be; empty otherwise."""

    @property
    def text_config(self) -> Any:
        """The config of the text decoder."""
        return self.module.config.get_text_config()  # type: ignore[union-attr, operator]

    @property
    def scored_ids(self) -> int:
        """The number of ids that the model scores, padding included."""
        config = getattr(self.module, "config", None)
        return int(config.get_text_config().vocab_size) if config else self.vocabulary.size

    @property
    def known_ids(self) -> int:
        """The number of ids that stand for a token and that the model has rows for.

        A tokenizer may have more, such as a token for images next to a model for text alone. Such
        an id can neither be fed nor generated.
        """
        return min(self.vocabulary.size, self.scored_ids, self._embedded_ids)

    @property
    def _embedded_ids(self) -> int:
        """The number of ids that the model has embeddings for."""
        embed = getattr(self.module, "get_input_embeddings", lambda: None)()
        weight = getattr(embed, "weight", None)
        return self.vocabulary.size if weight is None else int(weight.shape[0])

    @property
    def generation_config(self) -> Any:
        """The model's own transformers.GenerationConfig."""
        return self.module.generation_config


def load(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a model from a directory or by hub id. Weights are loaded from safetensors only.

    They go to the device one by one. On a CPU they stay in the file, which is mapped, as long as
    they have its data type.

    Args:
        dtype: "auto" for the checkpoint's own, see `foredraft_engine.model.dtypes`.

    Raises:
        ModelError: the model is missing or incomplete, is of a kind that cannot be served, or does
            not fit the device.
    """
    origin: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    place = _device(device)
    _check_config(name)
    config = _load_part(name, "config.json", lambda: AutoConfig.from_pretrained(name, **origin))
    _check_kind(name, config)
    _check_files(name)
    tokenizer = _load_part(
        name, "the tokenizer", lambda: AutoTokenizer.from_pretrained(name, **origin)
    )
    if not tokenizer.get_vocab():
        raise ModelError(f"cannot load {name!r}: {_NO_TOKENIZER}")
    if (own := readable_generation_config(name, revision)) is not None:
        origin["generation_config"] = own
    chosen, dtype_note = dtype_for(dtype, config, place)
    module = _weights(name, {"dtype": chosen, "device_map": place, **origin}).eval()
    if getattr(module, "_is_stateful", False):
        raise ModelError(
            f"cannot serve {name!r}: {config.model_type} keeps a running state that cannot be "
            "rolled back; use a model with attention layers only"
        )
    max_length, note = _max_length(module.config.get_text_config())
    said = str(chosen).removeprefix("torch.")
    vocabulary = Vocabulary.of(tokenizer)
    return LoadedModel(name, module, tokenizer, vocabulary, max_length, note, said, dtype_note)


def _weights(name: str, options: dict[str, Any]) -> Any:
    """Loads the module with its weights; none of them may be missing."""
    log.info("loading %s", name)
    options = {**options, "use_safetensors": True, "output_loading_info": True}
    module, found = _load_part(
        name, "the weights", lambda: AutoModelForCausalLM.from_pretrained(name, **options)
    )
    if missing := sorted(found["missing_keys"]) or sorted(map(str, found["mismatched_keys"])):
        # transformers would fill them with random numbers.
        raise ModelError(
            f"cannot load {name!r}: the weights lack {len(missing)} tensors, such as {missing[0]}; "
            "use files of one model"
        )
    return module


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device {name!r} cannot be used: {reason}; use cpu, or cuda if the machine has a GPU"
        ) from error
    return place


def _check_config(name: str) -> None:
    """Checks that a path leads to a model; transformers would take a missing one for a hub id."""
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"cannot load {name!r}: it has no config.json; use a model directory")
    elif (
        path.is_absolute()
        or name.startswith(("./", "../", "~"))
        or name.count("/") > 1
        or path.exists()
    ):
        raise ModelError(
            f"cannot load {name!r}: there is no such directory; use a model directory or a hub id"
        )


def _check_files(name: str) -> None:
    path = Path(name)
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise ModelError(
            f"cannot load {name!r}: it has no weights in *.safetensors, the only format that is "
            "loaded; convert them"
        )
    if path.is_dir() and not any((path / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(f"cannot load {name!r}: {_NO_TOKENIZER}")


def _load_part(name: str, part: str, load_it: Callable[[], T]) -> T:
    """Loads a part of the model. Any error of a library becomes a `ModelError` of one line."""
    try:
        return load_it()
    except ModelError:
        raise
    # transformers, the hub, tokenizers and safetensors raise errors of all kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        advice = "; are the files whole, and of one model?" if Path(name).is_dir() else ""
        raise ModelError(f"cannot load {part} of {name!r}: {reason}{advice}") from error


def _check_kind(name: str, config: Any) -> None:
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


def _max_length(config: Any) -> tuple[int, str]:
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
