"""Attention over the rows of a cache, which runs inside a model's own forward.

Most models call it through transformers' `AttentionInterface`. A model that calls torch's attention
itself gets its keys as `AttendedKeys`, which bring the call here.

This module knows nothing of what rows hold: the layout of the pass says what each token attends to.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from foredraft_engine.cache.layout import current_layout
from foredraft_engine.cache.online_softmax import Scoring
from foredraft_engine.cache.spans import RowSpan

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
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes the attention of packed queries over the rows, as transformers' functions do.

    Args:
        query: packed, [1, heads, n, head size].
        key, value: of all rows, [rows, kv heads, capacity, head size].
        s_aux: attention sinks, [heads]: the score of a place that every query reads and that has no
            value.

    Returns:
        [1, n, heads, value size], and None in place of attention weights.

    Raises:
        ValueError: the model was called without a layout.
        NotImplementedError: the model uses position biases.
    """
    layout = current_layout()
    if kwargs.get("position_bias") is not None:
        raise NotImplementedError("position biases have no packed form")
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for index, span in enumerate(layout.spans):
        places = layout.seen[index].places if span.is_padded else None
        q = _span_queries(query, span, places, key.shape[1])
        scoring = Scoring(scale, softcap, _span_sinks(s_aux, span, key.shape[1]))
        if span.quantized:
            seen = layout.visibility(index, sliding_window)
            out = span.quantized.attend(layout.layer, seen, q[0], scoring)[None]
        else:
            rows = slice(span.first_row, span.first_row + span.rows)
            mask = layout.mask(index, sliding_window, groups, q.dtype)
            out = _attend(q, key[rows, :, : span.end], value[rows, :, : span.end], mask, scoring)
        # out: [rows, kv heads, groups * tokens, size]
        out = out.view(span.rows, key.shape[1], groups, span.tokens, -1).permute(0, 3, 1, 2, 4)
        parts.append(out.reshape(span.rows * span.tokens, query.shape[1], -1))
    return _in_order(parts, layout.order)[None], None


def _in_order(parts: Sequence[Tensor], order: Tensor | None) -> Tensor:
    """Returns the outputs of all spans in the order of the packed tokens, [n, heads, size]."""
    packed = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    return packed if order is None else packed.index_select(0, order)


def _span_queries(query: Tensor, span: RowSpan, places: Tensor | None, kv_heads: int) -> Tensor:
    """Returns the queries of a span, [rows, kv heads, groups * tokens, size].

    The query heads of one kv head are folded into the tokens, so that no key is repeated.

    Args:
        query: packed, [1, heads, n, size].
        places: the token of each query, int64 [rows * tokens]; None if they are neighbours.
    """
    begin, groups = span.members[0].offset, query.shape[1] // kv_heads
    new = slice(begin, begin + span.rows * span.tokens)
    q = query[0, :, new] if places is None else query[0].index_select(1, places)
    q = q.view(kv_heads, groups, span.rows, span.tokens, -1).permute(2, 0, 1, 3, 4)
    return q.reshape(span.rows, kv_heads, groups * span.tokens, -1)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scoring: Scoring,
) -> Tensor:
    """Computes the attention of one span, [rows, kv heads, groups * tokens, value size]."""
    if scoring.softcap is None and scoring.sinks is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scoring.scale)
    scores = q @ k.transpose(2, 3) * scoring.scale
    if scoring.softcap is not None:
        scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
    scores = scores if mask is None else scores + mask
    if scoring.sinks is not None:
        sinks = scoring.sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return weights[..., : k.shape[2]] @ v


def _span_sinks(sinks: Tensor | None, span: RowSpan, kv_heads: int) -> Tensor | None:
    """Returns the sinks of a span's queries, [kv heads, groups * tokens, 1].

    Args:
        sinks: of the query heads, [heads].
    """
    if sinks is None:
        return None
    return sinks.view(kv_heads, -1, 1).repeat_interleave(span.tokens, dim=1)


class AttendedKeys(Tensor):
    """Keys whose `scaled_dot_product_attention` is `row_attention`.

    The mask of the call is ignored: the layout says what each token attends to. If the mask says
    more than that, such as ALiBi, the proof of the rows finds a difference.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [a.as_subclass(Tensor) if isinstance(a, cls) else a for a in args]
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, value = plain[:3]
            out, _ = row_attention(
                torch.nn.Identity(), query, key, value, None, kwargs.get("scale")
            )
            return out.transpose(1, 2)
        return super().__torch_function__(func, types, args, kwargs)


AttentionInterface.register(ATTENTION, row_attention)
