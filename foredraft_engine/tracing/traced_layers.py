"""The decoder layers of a model, traced: their Python ran once, and a pass calls compiled code.

A layer calls its own forward in a pass that it has no graph for: one over quantized rows, in
several spans, or over more tokens than a round has.

This module knows nothing of tokens or texts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foredraft_engine.cache.layout import Layout, MaskKind
from foredraft_engine.cache.row_cache import RowCache
from foredraft_engine.cache.traced_span import TracedCache, TracedSpan
from foredraft_engine.tracing.layer_call import LayerCall, tensors_of
from foredraft_engine.tracing.layer_graph import Example, LayerGraph
from foredraft_engine.tracing.pass_shape import PassShape


@dataclass(frozen=True, slots=True)
class TracedLayer:
    """A layer for passes of one shape."""

    graph: LayerGraph
    mask: MaskKind


@dataclass(frozen=True, slots=True)
class _Pass:
    """The pass that runs."""

    layers: Sequence[TracedLayer]
    span: Sequence[Tensor]
    masks: Mapping[MaskKind, Tensor]
    views: Sequence[tuple[Tensor, Tensor]]

    def tensors(self, index: int) -> list[Tensor]:
        """Returns what a layer reads of the pass."""
        return [*self.span, self.masks[self.layers[index].mask], *self.views[index]]


class TracedLayers:
    """The layers of a model and their graphs, by the shape of a pass."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._weights = [list(weights_of(layer).values()) for layer in layers]
        self._traced: dict[PassShape, Sequence[TracedLayer]] = {}
        self._pass: _Pass | None = None
        for index, layer in enumerate(layers):
            layer.forward = partial(self._forward, index, _own_forward(layer))

    @property
    def shapes(self) -> int:
        """The number of shapes that have graphs."""
        return len(self._traced)

    def use(self, shape: PassShape, traced: Sequence[TracedLayer]) -> None:
        """Lets passes of a shape run by graphs."""
        self._traced[shape] = traced

    def leave(self, shape: PassShape) -> None:
        """Lets passes of a shape run by the layers' own forwards."""
        self._traced.pop(shape, None)

    @contextmanager
    def running(self, cache: RowCache, layout: Layout) -> Iterator[None]:
        """Lets the model's pass that runs inside use graphs, if its shape has some."""
        shape = PassShape.of(layout)
        traced = None if shape is None else self._traced.get(shape)
        # Keys that are read to the very end lie in memory as those of no other pass do.
        if traced is not None and layout.spans[0].end < cache.capacity:
            masks = {kind: layout.whole_mask(kind) for kind in {layer.mask for layer in traced}}
            views = cache.views(layout.spans[0].first_row, layout.spans[0].rows)
            self._pass = _Pass(traced, _span_tensors(layout), masks, views)
        try:
            yield
        finally:
            self._pass = None

    def _forward(self, index: int, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._pass is None:
            return own(*args, **kwargs)
        given = [*tensors_of(args, kwargs), *self._pass.tensors(index), *self._weights[index]]
        return self._pass.layers[index].graph(given)


def _own_forward(layer: nn.Module) -> Callable[..., Any]:
    """Returns the forward that a layer has without graphs."""
    forward = layer.forward
    if isinstance(forward, partial) and isinstance(
        getattr(forward.func, "__self__", None), TracedLayers
    ):
        own: Callable[..., Any] = forward.args[1]  # traced for other rows before
        return own
    return forward


def trace_layers(
    layers: Sequence[nn.Module],
    calls: Sequence[LayerCall],
    cache: RowCache,
    layout: Layout,
    keys: type[Tensor],
) -> list[TracedLayer]:
    """Traces all layers for passes of the shape of one that was recorded.

    Args:
        calls: the call of each layer in that pass.
        cache: the rows that the pass ran over.
        layout: the layout of the pass.
        keys: what keys are for the model.

    Raises:
        Exception: a layer does not trace.
    """
    from foredraft_engine.tracing.layer_compiler import trace  # imports the compiler

    shape, span = PassShape.of(layout), layout.spans[0]
    assert shape is not None
    graphs: dict[Any, LayerGraph] = {}
    traced = []
    for index, (layer, call) in enumerate(zip(layers, calls, strict=True)):
        if (mask := layout.asked.get(index)) is None:
            raise ValueError(f"layer {index} has no keys of its own")
        kind = _kind(layer, call, mask)
        if kind not in graphs:
            weights = weights_of(layer)
            views = cache.views(span.first_row, span.rows)[index]
            examples = [
                *_call_examples(call, len(layout.ids)),
                *_span_examples(shape, layout, layout.whole_mask(mask), views),
                *(Example(weight, {}) for weight in weights.values()),
            ]
            samples = shape.samples(cache.rows, cache.capacity - 1, mask.groups)
            function = partial(_run, layer, list(weights), call, shape, keys)
            graphs[kind] = trace(function, examples, samples)
        traced.append(TracedLayer(graphs[kind], mask))
    return traced


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters and buffers of a layer by name."""
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}


def _span_tensors(layout: Layout) -> list[Tensor]:
    """Returns the first tensors of a `TracedSpan`; without an order if there is one row."""
    span, order = layout.spans[0], layout.order
    rows = layout.rows - span.first_row if span.first_row else layout.rows
    queries = layout.seen[0].places.view(span.rows, span.tokens)
    if span.rows == 1:
        return [rows, layout.places, queries]
    if order is None:
        order = torch.arange(len(layout.ids), device=layout.device)
    return [rows, layout.places, queries, order]


def _call_examples(call: LayerCall, n: int) -> list[Example]:
    """Returns the tensors of a call, whose sizes that equal the number of tokens are that."""
    return [
        Example(tensor, {at: "n" for at, size in enumerate(tensor.shape) if size == n > 1})
        for tensor in call.tensors
    ]


def _span_examples(
    shape: PassShape, layout: Layout, mask: Tensor, views: Sequence[Tensor]
) -> list[Example]:
    """Returns what a `TracedSpan` is made of, with the names of its sizes."""
    n = {0: "n"} if len(layout.ids) > 1 else {}
    rows = {0: "rows"} if shape.several_rows else {}
    queries = rows | ({1: "tokens"} if shape.several_tokens else {})
    folded = rows | ({2: "folded"} if shape.several_tokens else {})
    given = _span_tensors(layout)
    sizes = [n, n, queries, n][: len(given)]
    return [
        *(Example(tensor, names) for tensor, names in zip(given, sizes, strict=True)),
        Example(mask, folded | {3: "end"}),
        *(Example(view, rows) for view in views),
    ]


def _run(
    layer: nn.Module,
    names: Sequence[str],
    call: LayerCall,
    shape: PassShape,
    keys: type[Tensor],
    *tensors: Tensor,
) -> Any:
    """Runs a layer on the tensors that its graph takes."""
    given = iter(tensors)
    of_call = [next(given) for _ in call.tensors]
    rows, places, queries = next(given), next(given), next(given)
    order = next(given) if shape.several_rows else None
    span = TracedSpan(rows, places, queries, order, next(given), next(given), next(given))
    weights = dict(zip(names, given, strict=True))
    replaced = call.replaced(iter(of_call), TracedCache(span, keys))
    with span.current():
        return functional_call(layer, weights, replaced.args, dict(replaced.kwargs))


def _kind(layer: nn.Module, call: LayerCall, mask: MaskKind) -> Any:
    """Returns what layers that share a graph have in common.

    Numbers of layers do not count. If one changes what a layer computes, the proof of the graphs
    finds a difference.
    """
    weights = tuple((name, w.shape, w.dtype) for name, w in weights_of(layer).items())
    values = tuple(
        (name, type(module), key, value)
        for name, module in layer.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | None) and not key.startswith("layer_i")
    )
    return type(layer), weights, values, mask, tuple(t.shape for t in call.tensors)
