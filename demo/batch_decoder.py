"""A Llama that decodes a batch of equally long texts, one token a step, in bfloat16.

Rows of equal length need no mask, and the caches are allocated once, so that one core does several
hundred tokens a second with a model of 135 million parameters.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM


class BatchDecoder:
    """Feeds one token to each row, and returns what the model's head would read."""

    def __init__(self, model: LlamaForCausalLM, rows: int, length: int) -> None:
        config: Any = model.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = config.hidden_size // self._heads
        self._eps = config.rms_norm_eps
        self._embedding = model.model.embed_tokens.weight.detach().bfloat16()
        self._last_norm = model.model.norm.weight.detach().bfloat16()
        self._layers = [_weights(layer) for layer in model.model.layers]
        # Products with float32 keys that stand like this are twice as fast as any other way here.
        sequences = (len(self._layers), rows * self._kv_heads)
        self._keys = torch.zeros(*sequences, self._width, length)
        self._values = torch.zeros(*sequences, length, self._width)
        positions = torch.arange(length)[None]
        cos, sin = model.model.rotary_emb(torch.zeros(1), positions)
        self._cos, self._sin = cos[0], sin[0]
        self._position = 0

    def feed(self, ids: Tensor) -> Tensor:
        """Feeds int64 [rows]; returns the last hidden states after the norm, bfloat16 [rows, n]."""
        at, rows = self._position, len(ids)
        hidden = self._embedding[ids]
        for number, layer in enumerate(self._layers):
            joined = F.linear(self._normed(hidden, layer["first_norm"]), layer["qkv"])
            joined = joined.float().view(rows, -1, self._width)
            turned = self._turned(joined[:, : self._heads + self._kv_heads])
            query, key = turned.split([self._heads, self._kv_heads], 1)
            keys, values = self._keys[number, :, :, : at + 1], self._values[number, :, : at + 1]
            keys[:, :, at] = key.flatten(0, 1)
            values[:, at] = joined[:, self._heads + self._kv_heads :].flatten(0, 1)
            # The queries that share a key stand where other passes have the positions of a text.
            query = query.reshape(len(keys), -1, self._width) * self._width**-0.5
            mixed = query.bmm(keys).softmax(-1).bmm(values).view(rows, -1)
            hidden = hidden + F.linear(mixed.bfloat16(), layer["out"])
            gate, up = F.linear(self._normed(hidden, layer["second_norm"]), layer["up"]).chunk(2, 1)
            hidden = hidden + F.linear(F.silu(gate) * up, layer["down"])
        self._position += 1
        return self._normed(hidden, self._last_norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns float32 [rows, vocab]; the head is the embedding."""
        return F.linear(hidden, self._embedding).float()

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(hidden, (hidden.shape[-1],), weight, self._eps)

    def _turned(self, vectors: Tensor) -> Tensor:
        cos, sin = self._cos[self._position], self._sin[self._position]
        left, right = vectors.chunk(2, -1)
        turned: Tensor = vectors * cos + torch.cat([-right, left], -1) * sin
        return turned


def _weights(layer: Any) -> dict[str, Tensor]:
    attention, mlp = layer.self_attn, layer.mlp
    joined = {
        "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
        "out": [attention.o_proj],
        "up": [mlp.gate_proj, mlp.up_proj],
        "down": [mlp.down_proj],
        "first_norm": [layer.input_layernorm],
        "second_norm": [layer.post_attention_layernorm],
    }
    return {
        name: torch.cat([part.weight.detach() for part in parts]).bfloat16()
        for name, parts in joined.items()
    }
