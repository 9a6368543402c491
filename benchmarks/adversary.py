"""Measures what assistance costs where it cannot help: a draft that is always wrong, and no draft.

This module knows nothing of how foredraft finds that out.
"""

import os
import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.arena import CORES, MODELS, OUTCOMES
from benchmarks.contestants import Foredraft
from benchmarks.report import grid
from benchmarks.runs import Assist, Prompt, Sampling
from benchmarks.services import service

PAIRS = 30
_LAWS = (Sampling(0.0, 64), Sampling(0.7, 64))
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Cost:
    """The time with the draft divided by the time without, over interleaved pairs."""

    law: str
    ratio: float
    low: float
    high: float
    cpu_ratio: float
    """The same ratio for the CPU time of the target."""
    proposed_per_round: float


def make_draft(folder: Path) -> Path:
    """Makes a draft of the bundled one's shape and vocabulary that knows nothing."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODELS / "draft")).save_pretrained(
        folder
    )
    AutoTokenizer.from_pretrained(MODELS / "draft").save_pretrained(folder)
    return folder


def measure(folder: Path, target: Path, texts: Sequence[Prompt], pairs: int = PAIRS) -> list[Cost]:
    """Measures every law; the first runs, in which the draft is found out, are among the pairs."""
    with ExitStack() as stack:
        log = folder / "adversary.log"
        wrong = make_draft(folder / "adversary")
        draft = stack.enter_context(service("draft", wrong, CORES[1:2], log, "--ngram", "off"))
        flags = ("--draft", draft.address, "--outcomes", str(OUTCOMES), "--fallback", "none")
        served = stack.enter_context(service("target", target, CORES[:1], log, *flags))
        foredraft = Foredraft(served)
        foredraft.generate(texts[0], Assist(), _LAWS[0])
        costs = []
        for law in _LAWS:
            ratios, spent, proposed = [], [0.0, 0.0], []
            for number in range(pairs):
                text, sampling = texts[number % len(texts)], replace(law, seed=number)
                times = [0.0, 0.0]
                for which in ((0, 1), (1, 0))[number % 2]:
                    before = _cpu_s(served.pid)
                    run = foredraft.generate(
                        text, (Assist(), Assist("goodput", 20))[which], sampling
                    )
                    times[which] = run.later_s / run.later_tokens
                    spent[which] += _cpu_s(served.pid) - before
                    proposed += [run.proposed / run.rounds] if which else []
                ratios.append(times[1] / times[0])
            costs.append(
                Cost(str(law), *_spread(ratios), spent[1] / spent[0], statistics.mean(proposed))
            )
    return costs


def table(costs: Sequence[Cost], pairs: int = PAIRS) -> str:
    """Returns a Markdown table."""
    head = (
        "",
        "time by plain decoding's, median (95 %)",
        "CPU time by plain decoding's",
        "tokens proposed a round",
    )
    lines = [
        (
            c.law,
            f"**{c.ratio:.3f}** ({c.low:.3f} to {c.high:.3f})",
            f"{c.cpu_ratio:.3f}",
            f"{c.proposed_per_round:.2f}",
        )
        for c in costs
    ]
    return "\n\n".join(
        [
            f"### A draft that is always wrong, k by goodput, {pairs} interleaved pairs",
            grid(head, lines),
        ]
    )


def _spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    draw = random.Random(0)
    medians = sorted(
        statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES)
    )
    return (
        statistics.median(ratios),
        medians[int(0.025 * _RESAMPLES)],
        medians[int(0.975 * _RESAMPLES)],
    )


def _cpu_s(pid: int) -> float:
    """Returns the CPU time of all threads of a process."""
    ticks = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
