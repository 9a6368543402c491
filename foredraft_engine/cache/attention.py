"""Attention over the rows of a cache, as a function that transformers calls inside a model's own
forward.

Knows nothing of what rows hold: which tokens see what is said by the layout of the pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from foredraft_engine.cache.layout import Layout

ATTENTION = "foredraft_rows"


def row_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of packed queries over the rows, as transformers' attention functions are called.

    Args:
        query: [1, heads, n, head size], packed.
        key, value: the whole store of the layer, [rows, kv heads, capacity, head size].

    Returns:
        [1, n, heads, value size].
    """
    if layout is None:
        raise ValueError("row attention is called through Rows.forward only")
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise NotImplementedError("attention sinks and position biases have no packed form")
    groups = query.shape[1] // key.shape[1]
    parts = []
    for index, span in enumerate(layout.spans):
        q = query[
            0, :, span.offset : span.offset + span.rows * span.tokens
        ]  # [heads, rows * tokens, size]
        # The query heads of one kv head stand beside their tokens, so that no key or value is
        # repeated.
        q = q.view(key.shape[1], groups, span.rows, span.tokens, -1).permute(2, 0, 1, 3, 4)
        q = q.reshape(span.rows, key.shape[1], groups * span.tokens, -1)
        if span.quantized:
            sight = layout.sight(index, sliding_window)
            out = span.quantized.attend(layout.layer, sight, q[0], scaling, softcap)[None]
        else:
            rows = slice(span.first_row, span.first_row + span.rows)
            mask = layout.mask(index, sliding_window, groups, q.dtype)
            out = _attend(
                q, key[rows, :, : span.end], value[rows, :, : span.end], mask, scaling, softcap
            )
        # out: [rows, kv heads, groups * tokens, size]
        out = out.view(span.rows, key.shape[1], groups, span.tokens, -1).permute(0, 3, 1, 2, 4)
        parts.append(out.reshape(span.rows * span.tokens, query.shape[1], -1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    weights = (
        torch.tanh(q @ k.transpose(2, 3) * (scaling or q.shape[-1] ** -0.5) / softcap) * softcap
    )
    weights = weights if mask is None else weights + mask
    return weights.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v


AttentionInterface.register(ATTENTION, row_attention)
