"""Small random models of several architectures, and the bundled pair."""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from demo import small_draft
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import Rows
from foredraft_engine.model.traced_rows import trace_rows
from foredraft_engine.vocabulary import Vocabulary

MODELS = Path(__file__).resolve().parent.parent / "demo" / "models"
WINDOW = 12
# Models with packed rows: through the attention interface, with windows, with sinks, with attention
# that gets no arguments of the model, and with attention that the model calls itself.
PACKED = ("llama", "qwen3", "gpt2", "mistral", "gpt_oss", "stablelm", "falcon")


# `make test-compiled` runs tests with traced layers.
COMPILE = os.environ.get("FOREDRAFT_TESTS_COMPILE", "off")


def bundled(kind: str) -> LoadedModel:
    """Returns the bundled "target" or "draft" in fp32, with a module that nobody else has: rows
    change the module that they are made of.
    """
    found = _loaded_once(kind)
    return replace(found, module=copy.deepcopy(found.module))


@cache
def _loaded_once(kind: str) -> LoadedModel:
    return load(str(MODELS / kind))


def rows_of(model: nn.Module, count: int = 4, capacity: int = 512, spare: int = 0) -> Rows:
    """Returns fresh rows. A model that had rows is proved again, against its stock attention."""
    stock(model)
    rows = prove_rows(model, model.config, capacity, spare).make(count, capacity)
    trace_rows(rows, COMPILE)
    return rows


def stock(model: nn.Module) -> nn.Module:
    """Gives a model transformers' own attention back, for references."""
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")  # type: ignore[operator]
    return model


def random_model(name: str, seed: int = 0) -> nn.Module:
    """Returns a small model with weights so large that its texts do not repeat one token."""
    torch.manual_seed(seed)
    size: dict[str, Any] = {
        "vocab_size": 4096,
        "hidden_size": 48,
        "intermediate_size": 96,
        "initializer_range": 0.25,
    }
    size |= {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    if name == "llama":
        model: nn.Module = LlamaForCausalLM(LlamaConfig(**size, **ids))
    elif name == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**size, **ids, head_dim=16))
    elif name == "mistral":  # its window is shorter than the texts of the tests
        model = MistralForCausalLM(MistralConfig(**size, **ids, sliding_window=WINDOW))
    elif name == "gpt_oss":  # sinks, experts, and a window in every other layer
        experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
        config = GptOssConfig(**size, **ids, **experts, head_dim=16, sliding_window=WINDOW)
        model = GptOssForCausalLM(config)
    elif name == "stablelm":  # a quarter of each head is rotated, which has to be even
        size |= {"hidden_size": 64, "use_parallel_residual": True, "qk_layernorm": True}
        model = StableLmForCausalLM(StableLmConfig(**size, **ids))
    elif name == "falcon":
        model = FalconForCausalLM(FalconConfig(**size, **ids, alibi=False))
    elif name == "gpt2":
        config = GPT2Config(
            vocab_size=4096,
            n_embd=48,
            n_layer=2,
            n_head=4,
            n_positions=512,
            initializer_range=0.25,
            **ids,
        )
        model = GPT2LMHeadModel(config)
    else:
        raise ValueError(name)
    return model.eval()


def reduced_draft(folder: Path, known: Sequence[int]) -> Path:
    """Writes the bundled draft with some of its tokens; the others are one to it."""
    whole, tokenizer = bundled("draft").module, bundled("draft").tokenizer
    assert isinstance(whole, LlamaForCausalLM)
    small = small_draft.begun_from(whole, torch.tensor(known), range(len(whole.model.layers)))
    small_draft.save(small, folder, torch.tensor(known), tokenizer)
    return folder


def loaded(module: nn.Module, name: str) -> LoadedModel:
    """Returns a loaded random model with the vocabulary of the bundled pair."""
    tokenizer = bundled("target").tokenizer
    return LoadedModel(name, module, tokenizer, Vocabulary.of(tokenizer), 512)
