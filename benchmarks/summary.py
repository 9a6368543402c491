"""Turns runs into the figures of a table: medians, their spread, ratios, shares of the floor.

This module knows nothing of layout.
"""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bare import BareTimes
from benchmarks.race import Heat
from benchmarks.runs import Run
from benchmarks.tuning import Lane

_RESAMPLES = 2000
_LOOP_TAIL, _LOOP_PERIODS = 32, range(1, 13)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median between two bounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one lane."""

    name: str
    cores: str
    assist: str
    tokens_per_s: Spread
    """Tokens per second after the first tokens; the bounds are quartiles."""
    ratio: Spread
    """The ratio to the first lane, run by run; the bounds hold 95 % of bootstrapped medians."""
    whole_ratio: float
    """The same ratio with the prompt included."""
    first_ms: float
    acceptance_length: float
    floor_share: float
    equal_texts: int
    fallbacks: int


def lines(lanes: Sequence[Lane], heats: Sequence[Heat], bare: BareTimes) -> list[Line]:
    """Returns one line for each lane; the others are compared with the first."""
    return [_line(at, lane, heats, bare) for at, lane in enumerate(lanes)]


def ratio(heats: Sequence[Heat], one: int, other: int) -> Spread:
    """Returns the median of a lane's tokens/s divided by another's, run by run."""
    by_prompt: dict[str, list[float]] = {}
    for heat in heats:
        pair = heat.runs[one].tokens_per_s / heat.runs[other].tokens_per_s
        by_prompt.setdefault(heat.prompt, []).append(pair)
    groups = list(by_prompt.values())
    draw = random.Random(0)
    # Prompts are drawn and not runs, since two runs of one prompt say much the same.
    medians = sorted(
        statistics.median([r for group in draw.choices(groups, k=len(groups)) for r in group])
        for _ in range(_RESAMPLES)
    )
    low, high = medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES)]
    return Spread(statistics.median([r for group in groups for r in group]), low, high)


def loops(ids: Sequence[int]) -> bool:
    """Returns whether a text ends by saying the same few tokens over and over, which any draft
    foresees.
    """
    tail = ids[-_LOOP_TAIL:]
    return any(tail[period:] == tail[:-period] for period in _LOOP_PERIODS)


def _line(at: int, lane: Lane, heats: Sequence[Heat], bare: BareTimes) -> Line:
    runs = [heat.runs[at] for heat in heats]
    rates = [run.tokens_per_s for run in runs]
    low, median, high = (
        statistics.quantiles(rates, n=4, method="inclusive") if len(rates) > 1 else rates * 3
    )
    return Line(
        name=lane.rival.name,
        cores=lane.rival.cores,
        assist=str(lane.assist),
        tokens_per_s=Spread(median, low, high),
        ratio=ratio(heats, at, 0),
        whole_ratio=statistics.median(
            h.runs[at].whole_tokens_per_s / h.runs[0].whole_tokens_per_s for h in heats
        ),
        first_ms=statistics.median(run.first_s for run in runs) * 1e3,
        acceptance_length=sum(run.later_tokens for run in runs)
        / sum(run.later_rounds for run in runs),
        floor_share=statistics.median(_floor_s(run, bare) / run.later_s for run in runs),
        equal_texts=sum(heat.runs[at].ids == heat.runs[0].ids for heat in heats),
        fallbacks=sum(run.fallbacks for run in runs),
    )


def _floor_s(run: Run, bare: BareTimes) -> float:
    """Returns the time of its rounds as bare forward passes: those with a proposal, and those of
    one token.
    """
    drafted = run.drafts / run.rounds
    with_s = bare.median_s(1 + run.proposed / run.drafts) if run.drafts else 0.0
    return run.later_rounds * (drafted * with_s + (1 - drafted) * bare.median_s(1))
