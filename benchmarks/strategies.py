"""Measures every strategy next to transformers' own: one request alone, and eight at once. Two
cores, Linux.

    make bench-strategies
    make bench-strategies ARGS='--quick'
    make bench-strategies ARGS='--old-python PYTHON'   # with transformers 4.55.4, for what 5 lacks

The target (transformers' or the service's) has the first core, the draft and the client the second.
Eight at once are eight calls to foredraft. transformers is measured with one call after another,
which is what eight requests are to it, and with one padded batch, where it can.
"""

import argparse
import os
import secrets
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arena import CORES, MODELS, prompts
from benchmarks.report import grid
from benchmarks.services import Service, service
from benchmarks.worker import ROOT, Worker
from foredraft import Client

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Strategy:
    """What both sides are asked for."""

    name: str
    fields: dict[str, Any]
    old: bool = False
    """Whether the strategy needs transformers 4.55.4."""
    batches: bool = True
    """Whether transformers takes several prompts at a time."""
    ours: dict[str, Any] = field(default_factory=dict)
    """The further fields that foredraft needs to do the same."""


_PLAIN = {"num_assistant_tokens": 0}
STRATEGIES = (
    Strategy("greedy", {"do_sample": False}, ours=_PLAIN),
    Strategy("sampling", {"do_sample": True, "temperature": 0.7, "top_k": 50}, ours=_PLAIN),
    Strategy("beam search", {"num_beams": 4}),
    Strategy("beam sampling", {"num_beams": 4, "do_sample": True, "top_k": 50}),
    Strategy(
        "diverse beam search",
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        old=True,
    ),
    Strategy("contrastive search", {"penalty_alpha": 0.6, "top_k": 4}, old=True),
    Strategy(
        "assisted, by n-grams", {"do_sample": False, "prompt_lookup_num_tokens": 5}, batches=False
    ),
    Strategy(
        "assisted, by a model",
        {"do_sample": False, "num_assistant_tokens": 5},
        batches=False,
        ours={"assistant_confidence_threshold": 0.0},
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one strategy. A ratio is transformers' time divided by foredraft's."""

    name: str
    alone: Sequence[float]  # the ratios, pair by pair
    alone_s: float  # the median time of foredraft in seconds
    in_turn: float
    as_batch: float | None
    together_s: float
    equal: str

    def cells(self) -> tuple[str, ...]:
        """Returns the cells of the table."""
        low, high = min(self.alone), max(self.alone)
        alone = f"{statistics.median(self.alone):.2f} ({low:.2f} to {high:.2f})"
        batch = f"{self.as_batch:.2f}" if self.as_batch else ""
        return (
            self.name,
            alone,
            f"{self.alone_s:.2f}",
            f"{self.in_turn:.2f}",
            batch,
            f"{self.together_s:.2f}",
            self.equal,
        )


class Bench:
    """The two sides of the benchmark."""

    def __init__(self, target: Service, new: Worker, old: Worker | None, new_tokens: int) -> None:
        self._target, self._new, self._old, self._new_tokens = target, new, old, new_tokens

    def has(self, strategy: Strategy) -> bool:
        """Returns whether a rival runs this strategy."""
        return not strategy.old or self._old is not None

    def row(self, strategy: Strategy, texts: Sequence[Sequence[int]], pairs: int) -> Row:
        """Measures one strategy."""
        self._ours(strategy, texts[0])
        self._theirs(strategy, texts[:1])
        alone, ours, equal = [], [], 0
        for turn in range(pairs):
            text = texts[turn % len(texts)]
            if turn % 2:
                their_s, their_ids = self._theirs(strategy, [text])
                our_s, our_ids = self._ours(strategy, text)
            else:
                our_s, our_ids = self._ours(strategy, text)
                their_s, their_ids = self._theirs(strategy, [text])
            alone.append(their_s / our_s)
            ours.append(our_s)
            equal += our_ids == their_ids[0]
        eight = [texts[i % len(texts)] for i in range(_AT_ONCE)]
        together_s = min(self._together(strategy, eight) for _ in range(2))
        in_turn_s = sum(self._theirs(strategy, [text])[0] for text in eight)
        batch_s = self._theirs(strategy, eight)[0] if strategy.batches else None
        sampled = strategy.fields.get("do_sample")
        return Row(
            strategy.name,
            alone,
            statistics.median(ours),
            in_turn_s / together_s,
            batch_s / together_s if batch_s else None,
            together_s,
            "" if sampled else f"{equal} of {pairs}",
        )

    def _ours(self, strategy: Strategy, text: Sequence[int]) -> tuple[float, list[int]]:
        with self._somebody_new() as client:
            began = time.perf_counter()
            result = client.generate(
                list(text),
                max_new_tokens=self._new_tokens,
                eos_token_id=[],
                **strategy.ours,
                **strategy.fields,
            )
            return time.perf_counter() - began, list(result.token_ids)

    def _somebody_new(self) -> Client:
        """Returns a client with a new credential: no row holds what it said, since transformers
        reads every prompt anew.
        """
        client = Client(
            self._target.address, timeout=600, metadata={"authorization": secrets.token_hex(8)}
        )
        client.info()
        return client

    def _theirs(
        self, strategy: Strategy, texts: Sequence[Sequence[int]]
    ) -> tuple[float, list[list[int]]]:
        worker = self._old if strategy.old and self._old else self._new
        fields = {"max_new_tokens": self._new_tokens, **strategy.fields}
        answer = worker.ask(prompts=[list(text) for text in texts], fields=fields, seed=1)
        return answer["whole_s"], answer["ids"]

    def _together(self, strategy: Strategy, texts: Sequence[Sequence[int]]) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(len(texts)) as pool:
            list(pool.map(lambda text: self._ours(strategy, text), texts))
        return time.perf_counter() - began


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure each strategy next to transformers' own.")
    parser.add_argument("--quick", action="store_true", help="a short form: that everything runs")
    parser.add_argument("--only", default="", help="strategies with this in their names")
    parser.add_argument("--pairs", type=int, default=12, help="runs of each side, alone")
    parser.add_argument("--old-python", type=Path, help="a Python with transformers 4.55.4")
    parser.add_argument(
        "--target", type=Path, default=MODELS / "target", help="the target model's directory"
    )
    return parser.parse_args()


def _open_bench(args: argparse.Namespace, new_tokens: int, stack: ExitStack) -> Bench:
    """Starts both services and the workers for as long as the stack lives."""
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "strategies.log"
    os.sched_setaffinity(0, CORES[-1:])
    draft_flags = ("--ngram", "off")
    draft = stack.enter_context(service("draft", MODELS / "draft", CORES[-1:], log, *draft_flags))
    flags = ("--draft", draft.address, "--rows", "16", "--fallback", "none")
    target = stack.enter_context(service("target", args.target, CORES[:1], log, *flags))
    models = ("--target", str(args.target), "--draft", str(MODELS / "draft"))
    generating = ("benchmarks.generating", CORES[:1], log, *models)
    new = stack.enter_context(Worker(*generating))
    old = None
    if args.old_python:
        old = stack.enter_context(Worker(*generating, python=str(args.old_python)))
    return Bench(target, new, old, new_tokens)


def main() -> int:
    """Measures all strategies and prints a table; returns the exit code."""
    args = _arguments()
    pairs, new_tokens = (2, 16) if args.quick else (args.pairs, 64)
    texts = [prompt.ids for prompt in prompts(_AT_ONCE)]
    with ExitStack() as stack:
        bench = _open_bench(args, new_tokens, stack)
        command = f"make bench-strategies ARGS='{' '.join(sys.argv[1:])}'"
        print(grid(("", ""), list(machine.describe(command).items())))
        chosen = [one for one in STRATEGIES if bench.has(one) and args.only in one.name]
        rows = [bench.row(strategy, texts, pairs) for strategy in chosen]
    several = ("8 at once : in turn", "8 at once : one batch", "s for 8")
    print("\n" + grid(("", "alone", "s", *several, "equal texts"), [row.cells() for row in rows]))
    print(
        "\nRatios are transformers' time divided by foredraft's; alone: the median (least to most) "
        "of interleaved pairs."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
