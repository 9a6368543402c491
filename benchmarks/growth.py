"""Measures how a step grows along one axis at a time, next to its arithmetic.

    make bench-growth
    make bench-growth ARGS='--axes context rows --write'

The axes are the context, the rows, the draft length, and the vocabulary, from a step of 8 rows with
128 tokens each and 6 new ones, over 4,096 ids. Arithmetic is what a step cannot avoid: reading all
weights, keys and values once at the rate at which this machine reads memory, or multiplying them at
the rate at which it multiplies a large matrix, whichever takes longer. A step has a fixed part on
top, so no axis may grow more steeply than its arithmetic: the slope between neighbouring points is
compared.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import machine
from benchmarks.line_chart import line_chart
from benchmarks.report import grid
from benchmarks.worker import ROOT
from foredraft_engine.feed import Feed
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import Rows

_LAYERS, _SIZE, _HEADS, _KV_HEADS = 8, 512, 8, 4
_CHARTS = ROOT / "benchmarks" / "charts"


@dataclass(frozen=True, slots=True)
class Point:
    """A step."""

    context: int = 128
    rows: int = 8
    k: int = 5
    vocabulary: int = 4096

    @property
    def tokens(self) -> int:
        """The new tokens of the step."""
        return self.rows * (self.k + 1)


AXES: dict[str, Sequence[int]] = {
    "context": (128, 1024, 4096, 7900),
    "rows": (1, 4, 16, 64),
    "k": (0, 4, 8, 16),
    "vocabulary": (4096, 32768, 151936),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A point's step and its arithmetic."""

    at: int
    step_ms: float
    arithmetic_ms: float


class Rates:
    """How fast this machine reads and multiplies."""

    def __init__(self) -> None:
        memory, a = torch.ones(1 << 26), torch.ones(1024, 1024)
        self.bytes_s = memory.nbytes / _median_s(lambda: memory.sum(), 7)
        self.multiplications_s = 1024**3 / _median_s(lambda: a @ a, 7)

    def arithmetic_ms(self, model: LlamaForCausalLM, point: Point) -> float:
        """Returns what a step cannot avoid."""
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
        weights = sum(m.weight.numel() for m in linear)
        head_size = _SIZE // _HEADS
        places = point.rows * (point.context + point.k + 1)
        cached = places * _LAYERS * 2 * _KV_HEADS * head_size
        attended = point.tokens * (point.context + point.k + 1) * _LAYERS * 2 * _SIZE
        read_s = 4 * (weights + cached) / self.bytes_s
        multiplied_s = (point.tokens * weights + attended) / self.multiplications_s
        return 1e3 * max(read_s, multiplied_s)


def _median_s(do: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions + 1):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=_SIZE,
        intermediate_size=3 * _SIZE,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_KV_HEADS,
        max_position_embeddings=8192,
    )
    return LlamaForCausalLM(config).eval()


def _step_ms(rows: Rows, point: Point, repetitions: int) -> float:
    """Returns the time of a step, with its logits' likeliest tokens."""
    for row in range(point.rows):
        for start in range(0, point.context, 512):
            fed = min(512, point.context - start)
            rows.forward([Feed(row, start, [5] * fed)], [0])
    feeds = [Feed(row, point.context, list(range(point.k + 1))) for row in range(point.rows)]
    scored = [point.k + 1] * point.rows
    return 1e3 * _median_s(lambda: rows.forward(feeds, scored).argmax(-1).tolist(), repetitions)


def measure(rates: Rates, axis: str, repetitions: int) -> list[Measured]:
    """Measures all points of an axis."""
    measured = []
    for at in AXES[axis]:
        change: dict[str, Any] = {axis: at}
        point = replace(Point(), **change)
        model = _model(point.vocabulary)
        arithmetic_ms = rates.arithmetic_ms(model, point)
        pack_weights(model)
        rows = prove_rows(model, model.config, 128).make(point.rows, point.context + point.k + 2)
        measured.append(Measured(at, _step_ms(rows, point, repetitions), arithmetic_ms))
    return measured


def slope(measured: Sequence[Measured]) -> float:
    """Returns by how much more a step grows from end to end than its arithmetic does."""
    first, last = measured[0], measured[-1]
    return (last.step_ms - first.step_ms) / (last.arithmetic_ms - first.arithmetic_ms)


@torch.inference_mode()
def main() -> int:
    """Measures the axes and prints tables; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure how a step grows.")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write the charts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command = f"make bench-growth ARGS='{' '.join(sys.argv[1:])}'"
    print(grid(("", ""), list(machine.describe(command).items())), flush=True)
    rates = Rates()
    print(
        f"\nThis machine reads {rates.bytes_s / 1e9:.1f} GB/s and multiplies "
        f"{rates.multiplications_s / 1e9:.0f} G/s."
    )
    for axis in args.axes:
        measured = measure(rates, axis, args.repetitions)
        cells = [
            (
                str(m.at),
                f"{m.step_ms:.1f}",
                f"{m.arithmetic_ms:.1f}",
                f"{m.step_ms / m.arithmetic_ms:.2f}",
            )
            for m in measured
        ]
        print("\n" + grid((axis, "step, ms", "arithmetic, ms", "ratio"), cells))
        print(f"\nGrowth from end to end is {slope(measured):.2f} of the arithmetic's.", flush=True)
        if args.write:
            lines = {
                "a step": [(m.at, m.step_ms) for m in measured],
                "its arithmetic": [(m.at, m.arithmetic_ms) for m in measured],
            }
            chart = line_chart(f"A step by {axis}", "milliseconds, logarithmic axes", lines)
            (_CHARTS / f"growth_{axis}.svg").write_text(chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
