"""Attention over the rows of a cache, which transformers calls inside a model's own forward.

This module knows nothing of what rows hold: the layout of the pass says what each token attends to.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from foredraft_engine.cache.layout import Layout, RowSpan

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
    """Computes the attention of packed queries over the rows.

    The signature is that of transformers' attention functions.

    Args:
        query: packed, [1, heads, n, head size].
        key, value: of all rows, [rows, kv heads, capacity, head size].

    Returns:
        [1, n, heads, value size], and None in place of attention weights.

    Raises:
        ValueError: the model was called without a layout.
        NotImplementedError: the model uses attention sinks or position biases.
    """
    if layout is None:
        raise ValueError("layout: is missing; call the model through Rows.forward")
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise NotImplementedError("attention sinks and position biases have no packed form")
    groups = query.shape[1] // key.shape[1]
    parts = []
    for index, span in enumerate(layout.spans):
        q = _span_queries(query, span, key.shape[1])
        if span.quantized:
            seen = layout.visibility(index, sliding_window)
            out = span.quantized.attend(layout.layer, seen, q[0], scaling, softcap)[None]
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


def _span_queries(query: Tensor, span: RowSpan, kv_heads: int) -> Tensor:
    """Returns the queries of a span, [rows, kv heads, groups * tokens, size].

    The query heads of one kv head are folded into the tokens, so that no key is repeated.

    Args:
        query: packed, [1, heads, n, size].
    """
    end, groups = span.offset + span.rows * span.tokens, query.shape[1] // kv_heads
    q = query[0, :, span.offset : end]  # [heads, rows * tokens, size]
    q = q.view(kv_heads, groups, span.rows, span.tokens, -1).permute(2, 0, 1, 3, 4)
    return q.reshape(span.rows, kv_heads, groups * span.tokens, -1)


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
