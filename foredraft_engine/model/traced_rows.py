"""Traces the decoder layers of packed rows, and proves that their graphs give the same logits.

What does not trace, or gives other logits, runs as before; the notes say what and why.

This module knows nothing of architectures: it finds a model's layers and compares its logits.
"""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foredraft_engine.feed import Feed
from foredraft_engine.model.proof import disagreement
from foredraft_engine.model.rows import PackedRows, Rows
from foredraft_engine.tracing.compiled_before import note_compiled, owned_by_others, was_compiled
from foredraft_engine.tracing.layer_call import record
from foredraft_engine.tracing.pass_shape import PassShape
from foredraft_engine.tracing.traced_layers import (
    TracedLayer,
    TracedLayers,
    trace_layers,
    weights_of,
)

log = logging.getLogger(__name__)

_COMPILERS = ("g++", "clang++", "c++")
# Compiling takes some seconds for each shape, which small models do not make up for.
_LEAST_BYTES = 64 << 20
# The texts of examples, of ids that every vocabulary has.
_FILLED_ROWS, _FILLED_PLACES, _FILL_IDS = 4, 32, 50


@dataclass(frozen=True, slots=True)
class Tracing:
    """What came of tracing."""

    shapes: int
    """The number of shapes of passes that run by graphs."""
    notes: tuple[str, ...]
    """What is not traced, and why."""
    seconds: float = 0.0


def trace_rows(rows: Rows, wanted: str) -> Tracing:
    """Traces the layers of rows.

    Args:
        wanted: "on", "off", or "auto": if the model is so large that it pays, and its layers were
            compiled before, since a start is not to wait for a compiler that nobody asked for.
    """
    if why_not := _why_not(rows, wanted):
        return Tracing(0, (why_not,))
    assert isinstance(rows, PackedRows)
    if not was_compiled(model := _fingerprint(rows)):
        log.info("compiling the model's layers, which takes some seconds for each kind of layer")
    began, notes = time.perf_counter(), list[str]()
    layers, several = decoder_layers(rows.model), [False] if rows.count == 1 else [False, True]
    shapes = [PassShape(r, t) for r in several for t in (False, True)]
    made: list[tuple[PassShape, list[TracedLayer]]] = []
    with torch.inference_mode():
        _fill(rows)
        for shape in shapes:
            try:
                made.append((shape, _traced(rows, layers, shape)))
            except Exception as error:  # a model's own code and torch's raise what they like
                reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
                notes.append(f"{_name(shape)}: {reason}")
        rows.traced = TracedLayers(layers)
        for shape, traced in made:
            if difference := _difference(rows, rows.traced, shape, traced):
                rows.traced.leave(shape)
                notes.append(f"{_name(shape)}: {difference}")
    if rows.traced.shapes:
        note_compiled(model)
    return Tracing(rows.traced.shapes, tuple(notes), time.perf_counter() - began)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Returns the layers of a decoder: its list of modules that holds the most weights."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m)]
    sizes = [_weight_bytes(one) for one in lists]
    return list(lists[sizes.index(max(sizes))]) if lists else []


def _why_not(rows: Rows, wanted: str) -> str:
    """Returns why nothing is traced; empty if it is tried."""
    if wanted == "off":
        return "--compile is off"
    if not isinstance(rows, PackedRows):
        return f"{rows.layout} rows have no graphs"
    if rows.device.type != "cpu":
        return f"layers are traced on a CPU alone, and this is {rows.device}"
    if not any(shutil.which(name) for name in _COMPILERS):
        return f"there is no C++ compiler ({', '.join(_COMPILERS)})"
    if wanted == "auto" and _weight_bytes(rows.model) < _LEAST_BYTES:
        return f"the model is smaller than {_LEAST_BYTES >> 20} MiB; --compile on traces it too"
    if not decoder_layers(rows.model):
        return "the model has no list of layers"
    if wanted == "auto" and not was_compiled(_fingerprint(rows)):
        return (
            "they were not compiled before for rows like these; one start with --compile on "
            "compiles them, some seconds for each kind of layer, and later starts find them"
        )
    if place := owned_by_others():
        return (
            f"others can write to {place}; set TORCHINDUCTOR_CACHE_DIR to a directory of your own"
        )
    return ""


def _fingerprint(rows: PackedRows) -> str:
    """Returns all that compiled layers depend on."""
    modules = [type(module).__name__ for module in decoder_layers(rows.model)[0].modules()]
    config: str = rows.model.config.to_json_string(use_diff=False)  # type: ignore[union-attr, operator]
    sizes = (rows.count, rows.capacity + rows.spare, torch.get_num_threads())
    return f"{config} {next(rows.model.parameters()).dtype} {modules} {sizes}"


def _weight_bytes(module: nn.Module) -> int:
    return sum(weight.numel() * weight.itemsize for weight in weights_of(module).values())


def _name(shape: PassShape) -> str:
    rows = "several rows" if shape.several_rows else "one row"
    return f"{rows} of {'several tokens' if shape.several_tokens else 'one token'}"


def _traced(rows: PackedRows, layers: Sequence[nn.Module], shape: PassShape) -> list[TracedLayer]:
    taken = frozenset(n for w in weights_of(layers[0]).values() for n in w.shape)
    feeds = shape.example(rows.count, taken)
    if any(feed.start + len(feed.ids) >= rows.capacity for feed in feeds):
        raise ValueError(f"rows of {rows.capacity} tokens are too short for an example")
    calls = record(layers, _forward(rows, feeds))
    layout = rows.cache.layout
    assert layout is not None
    return trace_layers(layers, calls, rows.cache, layout, rows.keys)


def _fill(rows: PackedRows) -> None:
    """Gives the rows of examples a text, since logits after no text at all are like no others."""
    generator = torch.Generator().manual_seed(0)
    for row in range(min(_FILLED_ROWS, rows.count)):
        ids = torch.randint(
            1, _FILL_IDS, (min(_FILLED_PLACES, rows.capacity),), generator=generator
        )
        rows.forward([Feed(row, 0, ids.tolist())], [1])


def _forward(rows: PackedRows, feeds: Sequence[Feed]) -> Callable[[], Tensor]:
    """Returns a pass that scores every token."""
    return lambda: rows.forward(feeds, [len(feed.ids) for feed in feeds])


def _difference(
    rows: PackedRows, layers: TracedLayers, shape: PassShape, traced: Sequence[TracedLayer]
) -> str:
    """Uses graphs and returns how far logits differ, if rounding does not explain it."""
    run = _forward(rows, _unlike_example(rows, shape))
    dtype = next(rows.model.parameters()).dtype
    expected = run().to(dtype)
    layers.use(shape, traced)
    try:
        return disagreement(run(), expected)
    except Exception as error:  # of compiled code
        return f"{type(error).__name__}: {error}"


def _unlike_example(rows: PackedRows, shape: PassShape) -> list[Feed]:
    """Returns feeds of other sizes than those of the example, and of other rows."""
    tokens = (3, 2, 1) if shape.several_tokens else (1, 1, 1)
    first = 1 if rows.count > 1 and not shape.several_rows else 0
    count = min(3, rows.count) if shape.several_rows else 1
    return [Feed(first + i, 9 + i, range(2, 2 + n)) for i, n in enumerate(tokens[:count])]
