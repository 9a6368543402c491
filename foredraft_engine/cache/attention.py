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

from foredraft_engine.cache.layout import Layout, current_layout
from foredraft_engine.cache.online_softmax import Scoring
from foredraft_engine.cache.traced_span import TracedSpan, current_span

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
    if kwargs.get("position_bias") is not None:
        raise NotImplementedError("position biases have no packed form")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if traced := current_span():
        return _traced_attention(traced, query, Scoring(scale, softcap, s_aux)), None
    layout = current_layout()
    parts = []
    for index, span in enumerate(layout.spans):
        sinks = _folded_sinks(s_aux, span.tokens, key.shape[1])
        scoring = Scoring(scale, softcap, sinks)
        parts.append(_span_attention(layout, index, query, key, value, sliding_window, scoring))
    return _in_order(parts, layout.order)[None], None


def _span_attention(
    layout: Layout,
    index: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    scoring: Scoring,
) -> Tensor:
    """Computes the attention of one span, [rows * tokens, heads, value size].

    Args:
        index: the span.
        query, key, value: as in `row_attention`.
        window: the length of the attention window; None if there is none.
        scoring: its sinks are those of folded queries.
    """
    span, kv_heads = layout.spans[index], key.shape[1]
    groups = query.shape[1] // kv_heads
    if span.is_padded:
        of_span = query[0].index_select(1, layout.seen[index].places)
    else:
        begin = span.members[0].offset
        of_span = query[0, :, begin : begin + span.rows * span.tokens]
    q = _folded(of_span, span.rows, span.tokens, kv_heads)
    if span.quantized:
        seen = layout.visibility(index, window)
        out = span.quantized.attend(layout.layer, seen, q[0], scoring)[None]
    else:
        rows = slice(span.first_row, span.first_row + span.rows)
        mask = layout.mask(index, window, groups, q.dtype)
        out = _attend(q, key[rows, :, : span.end], value[rows, :, : span.end], mask, scoring)
    return _unfolded(out, span.rows, span.tokens, groups)


def _in_order(parts: Sequence[Tensor], order: Tensor | None) -> Tensor:
    """Returns the outputs of all spans in the order of the packed tokens, [n, heads, size]."""
    packed = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    return packed if order is None else packed.index_select(0, order)


def _traced_attention(span: TracedSpan, query: Tensor, scoring: Scoring) -> Tensor:
    """Computes the attention of the one span of a traced layer, [1, n, heads, value size].

    Args:
        query: packed, [1, heads, n, head size].
        scoring: its sinks are those of the query heads, [heads].
    """
    kv_heads, (rows, tokens) = span.keys.shape[1], span.queries.shape
    end = span.mask.shape[3]
    of_span = query[0]
    if span.order is not None:
        of_span = of_span.index_select(1, span.queries.reshape(rows * tokens))
    q = _folded(of_span, rows, tokens, kv_heads)
    folded = Scoring(scoring.scale, scoring.softcap, _folded_sinks(scoring.sinks, tokens, kv_heads))
    out = _attend(q, span.keys[:, :, :end], span.values[:, :, :end], span.mask, folded)
    unfolded = _unfolded(out, rows, tokens, query.shape[1] // kv_heads)
    return (unfolded if span.order is None else unfolded.index_select(0, span.order))[None]


def _folded(query: Tensor, rows: int, tokens: int, kv_heads: int) -> Tensor:
    """Returns the queries of a span, [rows, kv heads, groups * tokens, size].

    The query heads of one kv head are folded into the tokens, so that no key is repeated.

    Args:
        query: [heads, rows * tokens, size].
    """
    heads, _, size = query.shape
    groups = heads // kv_heads
    q = query.reshape(kv_heads, groups, rows, tokens, size).permute(2, 0, 1, 3, 4)
    return q.reshape(rows, kv_heads, groups * tokens, size)


def _unfolded(out: Tensor, rows: int, tokens: int, groups: int) -> Tensor:
    """Returns outputs of folded queries as [rows * tokens, heads, size]."""
    _, kv_heads, _, size = out.shape
    each = out.view(rows, kv_heads, groups, tokens, size).permute(0, 3, 1, 2, 4)
    return each.reshape(rows * tokens, kv_heads * groups, size)


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


def _folded_sinks(sinks: Tensor | None, tokens: int, kv_heads: int) -> Tensor | None:
    """Returns the sinks of folded queries, [kv heads, groups * tokens, 1].

    Args:
        sinks: of the query heads, [heads].
    """
    if sinks is None:
        return None
    groups = sinks.shape[0] // kv_heads
    return (
        sinks.view(kv_heads, groups, 1)
        .expand(kv_heads, groups, tokens)
        .reshape(kv_heads, groups * tokens, 1)
    )


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
