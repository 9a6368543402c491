"""Writes the bundled models in other formats, and says what transformers generates with them."""

import json
import warnings
from pathlib import Path
from typing import Any

import gguf
import peft
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from foredraft_engine.model.loading import load
from tests.models import stock

PROMPT, LENGTH = "def main(", 24
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_gguf(folder: Path, file: Path) -> Path:
    """Writes a bundled model, which is a Llama with tied embeddings, as GGUF in float32."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    model = load(str(folder)).module
    writer = gguf.GGUFWriter(file, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    weights = model.state_dict()
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    for layer in range(config["num_hidden_layers"]):
        names |= {f"blk.{layer}.{a}": f"model.layers.{layer}.{b}" for a, b in _OF_LAYER.items()}
    for ours, theirs in names.items():
        weight = weights[f"{theirs}.weight"].float()
        if ours.endswith(("attn_q", "attn_k")):
            weight = _interleaved(weight, heads if ours.endswith("q") else kv_heads)
        writer.add_tensor(f"{ours}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Returns the rows of queries or keys in the order that GGUF has for rotation."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()


def write_adapter(base: Path, folder: Path) -> nn.Module:
    """Writes an adapter that changes texts; returns the merged model."""
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about peft
        adapted = peft.get_peft_model(load(str(base)).module, config)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.2)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(folder)
    merged: nn.Module = adapted.merge_and_unload()
    return merged.eval()


def write_quantized(base: Path, folder: Path) -> None:
    """Writes a model as compressed-tensors does, in 4 bits and so coarsely that texts change."""
    module = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    weights = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="channel")
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    groups = {"all": scheme}
    apply_quantization_config(
        module,
        QuantizationConfig(config_groups=groups, ignore=["lm_head"], format="pack-quantized"),
    )
    for layer in module.modules():
        if hasattr(layer, "weight_scale"):
            layer.weight_scale.data = layer.weight.data.abs().amax(1, keepdim=True) / 2
    compressor = ModelCompressor.from_pretrained_model(module)
    compressor.compress_model(module)
    module.save_pretrained(folder)
    compressor.update_config(folder)
    load(str(base)).tokenizer.save_pretrained(folder)


def text_of(model: Any, tokenizer: Any) -> str:
    """Returns what transformers generates with a model."""
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    made = stock(model).generate(ids, max_new_tokens=LENGTH, do_sample=False)  # type: ignore[operator]
    return str(tokenizer.decode(made[0, ids.shape[1] :]))
