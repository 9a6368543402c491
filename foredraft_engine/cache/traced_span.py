"""What a traced layer reads of a pass: tensors alone, so that one graph serves passes of any size.

A layout knows sizes as numbers of the host, which a graph would keep for ever. Here they are the
shapes of tensors. This module knows nothing of how a layer is traced.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache


@dataclass(frozen=True, slots=True)
class TracedSpan:
    """The one span of a pass, for one layer. See `Layout` and `Sight` for what the numbers say."""

    rows: Tensor
    """The row of each token among those of the span, int64 [n]."""
    places: Tensor
    """int64 [n]"""
    queries: Tensor
    """The token of each query, int64 [rows, tokens]."""
    order: Tensor | None
    """The query of each token, int64 [n]; None if there is one row, whose queries are its tokens.
    """
    mask: Tensor
    """[rows, 1, groups * tokens, end]"""
    keys: Tensor
    """[rows, kv heads, capacity, head size]"""
    values: Tensor

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes this the span of the layer that is traced inside."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[TracedSpan | None] = ContextVar("traced_span", default=None)


def current_span() -> TracedSpan | None:
    """Returns the span of the layer that is traced; None outside of tracing."""
    return _current.get()


class TracedCache(Cache):  # type: ignore[misc]
    """The keys and values of one layer's rows, in place of a `RowCache` while it is traced."""

    def __init__(self, span: TracedSpan, keys: type[Tensor]) -> None:
        """
        Args:
            keys: what the keys are for the model.
        """
        super().__init__(layers=[])
        self._span, self._keys = span, keys

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes the new keys and values into the rows, see `RowCache.update`."""
        span = self._span
        span.keys[span.rows, :, span.places] = key_states[0].transpose(0, 1)
        span.values[span.rows, :, span.places] = value_states[0].transpose(0, 1)
        return span.keys.as_subclass(self._keys), span.values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns 0, as `RowCache` does."""
        return 0
