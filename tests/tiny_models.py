"""A tiny random model of any decoder kind that transformers has."""

from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

VOCABULARY = 4096
"""That of the bundled pair, whose tokenizer the tiny models share."""
# Names that configs have for the same size. A config's own aliases are resolved by transformers.
_SIZES: dict[int, tuple[str, ...]] = {
    VOCABULARY: ("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"),
    256: (
        "max_position_embeddings",
        "max_seq_len",
        "n_ctx",
        "context_length",
        "original_max_position_embeddings",
    ),
    64: (
        "hidden_size",
        "d_model",
        "intermediate_size",
        "intermediate_size_mlp",
        "ffn_dim",
        "ffn_hidden_size",
        "decoder_ffn_dim",
        "dim_ff",
        "dff",
        "word_embed_proj_dim",
        "embedding_size",
        "attention_hidden_size",
        "lru_width",
        "embedding_dim",
        "dense_intermediate_size",
        "encoder_ffn_dim",
        "linear_in_size",
    ),
    32: (
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "shared_experts_intermediate_size",
        "expert_ffn_hidden_size",
        "moe_shared_expert_intermediate_size",
        "hidden_size_per_layer_input",
        "router_hidden_size",
    ),
    16: (
        "head_dim",
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "kv_channels",
        "query_pre_attn_scalar",
        "dim_head",
        "swa_head_dim",
        "laurel_rank",
        "o_lora_rank",
        "index_head_dim",
        "index_topk",
        "rotary_dim",
    ),
    12: (
        "sliding_window",
        "attention_chunk_size",
        "sliding_window_size",
        "window_size",
        "local_attention",
    ),
    4: (
        "num_attention_heads",
        "n_heads",
        "swa_num_attention_heads",
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "moe_num_experts",
        "index_n_heads",
        "decoder_attention_heads",
        "encoder_attention_heads",
    ),
    2: (
        "num_hidden_layers",
        "n_layers",
        "num_layers",
        "num_key_value_heads",
        "num_kv_heads",
        "swa_num_key_value_heads",
        "num_query_groups",
        "num_experts_per_tok",
        "num_experts_per_token",
        "moe_topk",
        "zero_expert_num",
        "encoder_layers",
        "decoder_layers",
    ),
    1: ("n_group", "topk_group", "first_k_dense_replace", "pad_token_id"),
    0: ("bos_token_id", "eos_token_id"),
}
SMALL: dict[str, Any] = {name: size for size, names in _SIZES.items() for name in names}
SMALL["initializer_range"] = 0.25


def kinds() -> list[str]:
    """Returns the model types of all causal language models of transformers."""
    return sorted({config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING})


def tiny_model(kind: str) -> nn.Module:
    """Returns a tiny model of a kind, with weights so large that its texts vary.

    Raises:
        Exception: of any kind, by transformers, for a config that cannot be made small by names.
    """
    made = next(c for c in MODEL_FOR_CAUSAL_LM_MAPPING if c.model_type == kind)
    config = made(**_small(made().get_text_config(decoder=True), made))
    torch.manual_seed(0)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > 8_000_000:
        raise ValueError(f"the model has {size:,} parameters")
    model: nn.Module = AutoModelForCausalLM.from_config(config)
    return model.eval()


def _small(text: Any, made: Any) -> dict[str, Any]:
    """Returns arguments for a small config, whose text part may be one of several parts."""
    names = {**text.to_dict(), **{name: None for name in text.attribute_map}}
    small = {name: value for name, value in SMALL.items() if name in names}
    if "kv_lora_rank" in names:  # latent attention: every head has keys, rotated in a part
        small["num_key_value_heads"] = small["num_attention_heads"]
        small.pop("head_dim", None)
    if text.__class__ is made:
        return small
    part = next((k for k, v in made.sub_configs.items() if v is text.__class__), None)
    if part is None:
        raise ValueError("the config of its text part has no name")
    return {part: small}
