"""Loads the weights, tokenizer and configs of a model, from a directory or by hub id.

This module knows nothing of rows or requests.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from foredraft_engine.errors import ModelError
from foredraft_engine.model.adapter import find_adapter, merge_adapter
from foredraft_engine.model.checkpoint import (
    NO_TOKENIZER,
    Checkpoint,
    check_files,
    find_checkpoint,
)
from foredraft_engine.model.device import device_of
from foredraft_engine.model.draft_vocabulary import DraftVocabulary, draft_vocabulary
from foredraft_engine.model.dtypes import dtype_for
from foredraft_engine.model.empty_module import EmptyModule
from foredraft_engine.model.generation_config import readable_generation_config
from foredraft_engine.model.quantization import method_of, refusal
from foredraft_engine.model.safe_weights import safe_weights
from foredraft_engine.model.served_kinds import check_kind, check_stateless, longest_sequence
from foredraft_engine.vocabulary import Vocabulary

log = logging.getLogger(__name__)

T = TypeVar("T")


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
    draft_vocabulary: DraftVocabulary | None = None
    """The tokens that it knows, if it is a draft that knows only some of its target's."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def text_config(self) -> Any:
        """The config of the text decoder."""
        return self.module.config.get_text_config()  # type: ignore[union-attr, operator]

    @property
    def scored_ids(self) -> int:
        """The number of ids that the model scores, padding included."""
        if self.draft_vocabulary:
            return self.draft_vocabulary.size
        config = getattr(self.module, "config", None)
        return int(config.get_text_config().vocab_size) if config else self.vocabulary.size

    @property
    def known_ids(self) -> int:
        """The number of ids that stand for a token and that the model has rows for.

        A tokenizer may have more, such as a token for images next to a model for text alone. Such
        an id can neither be fed nor generated.
        """
        if self.draft_vocabulary:
            return self.draft_vocabulary.size
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
    adapter: str = "",
    device: str = "cpu",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a model from a directory, a GGUF file or by hub id.

    Weights are loaded from safetensors or GGUF, and go to the device one by one. On a CPU they stay
    in a file of safetensors, which is mapped, as long as they have its data type.

    Args:
        adapter: a LoRA adapter that is merged into the weights, a directory or hub id; or none.
        device: see `foredraft_engine.model.device`.
        dtype: "auto" for the checkpoint's own, see `foredraft_engine.model.dtypes`.

    Raises:
        ModelError: the model is missing or incomplete, is of a kind that cannot be served, or does
            not fit the device.
    """
    origin: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    place = device_of(device)
    checkpoint = find_checkpoint(name, revision)
    if adapter:
        adapter = find_adapter(adapter)
    origin |= checkpoint.source
    config = _load_part(name, "config.json", lambda: AutoConfig.from_pretrained(**origin))
    check_kind(name, config)
    check_files(checkpoint)
    tokenizer = _tokenizer(name, origin)
    if (own := readable_generation_config(checkpoint.place, revision)) is not None:
        origin["generation_config"] = own
    chosen, dtype_note = dtype_for(dtype, config, place)
    if checkpoint.gguf and dtype_note:  # a GGUF file has no data type of torch
        dtype_note = f"GGUF is unpacked to {chosen}; --dtype chooses another"
    module = _weights(checkpoint, config, {"dtype": chosen, "device_map": place, **origin}).eval()
    check_stateless(name, module)
    if adapter:
        module = merge_adapter(module, adapter)
    max_length, note = longest_sequence(module.config.get_text_config())
    said = str(chosen).removeprefix("torch.")
    vocabulary = Vocabulary.of(tokenizer)
    loaded = LoadedModel(name, module, tokenizer, vocabulary, max_length, note, said, dtype_note)
    table = draft_vocabulary(checkpoint.place, revision, vocabulary.size, loaded.scored_ids)
    return replace(loaded, draft_vocabulary=table)


def _tokenizer(name: str, origin: dict[str, Any]) -> Any:
    """Loads the tokenizer, which has to have tokens."""
    tokenizer = _load_part(name, "the tokenizer", lambda: AutoTokenizer.from_pretrained(**origin))
    if not tokenizer.get_vocab():
        raise ModelError(f"cannot load {name!r}: {NO_TOKENIZER}")
    return tokenizer


def _weights(checkpoint: Checkpoint, config: Any, options: dict[str, Any]) -> Any:
    """Loads the module with its weights; none of them may be missing."""
    name = checkpoint.name
    log.info("loading %s", name)
    options = {**options, "use_safetensors": True, "output_loading_info": True}
    if checkpoint.gguf:
        options["quantization_config"] = GgufConfig(dequantize=True)

    def from_files() -> Any:
        try:
            with safe_weights(name), EmptyModule():
                return AutoModelForCausalLM.from_pretrained(**options)
        except ModelError:
            raise
        except Exception as error:  # transformers and its packages raise errors of all kinds
            if method := method_of(config):
                raise refusal(name, method, error) from error
            raise

    module, found = _load_part(name, "the weights", from_files)
    if missing := sorted(found["missing_keys"]) or sorted(map(str, found["mismatched_keys"])):
        # transformers would fill them with random numbers.
        kind = f"quantized by {method}, " if (method := method_of(config)) else ""
        raise ModelError(
            f"cannot load {name!r}: {kind}the weights lack {len(missing)} tensors, such as "
            f"{missing[0]}; use files of one model"
        )
    return module


def _load_part(name: str, part: str, load_it: Callable[[], T]) -> T:
    """Loads a part of the model. Any error of a library becomes a `ModelError` of one line."""
    try:
        return load_it()
    except ModelError:
        raise
    # transformers, the hub, tokenizers and safetensors raise errors of all kinds.
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"cannot load {part} of {name!r}: it comes with code of its own, which runs only "
                "with --trust-remote-code; read that code before"
            ) from error
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        advice = "; are the files whole, and of one model?" if Path(name).is_dir() else ""
        raise ModelError(f"cannot load {part} of {name!r}: {reason}{advice}") from error
