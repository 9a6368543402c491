"""Turns runs and the services' metrics into the figures of one way of drafting at one distance.

This module knows nothing of how the network was made.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bare import BareTimes
from benchmarks.report import grid
from benchmarks.runs import Run, Sampling
from benchmarks.services import Counters

_ARRIVALS = ("in_time", "late")
_MISSES = ("unforeseen", "late")
_WAYS = ("chosen", "pushed", "synchronous")
_HEAD = (
    *("", "RTT, ms", "tokens/s (quartiles)", "mean acceptance length", "k", "alternatives"),
    *("share of floor", "hit rate", "hidden", "bytes a round", "share of formula"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run, and the growth of both services' metrics in it."""

    run: Run
    target: Counters
    draft: Counters


@dataclass(frozen=True, slots=True)
class Row:
    """One way of drafting at one distance."""

    law: str
    way: str
    rtt_ms: float
    tokens_per_s: tuple[float, float, float]
    """The quartiles of tokens per second."""
    rate: float
    """All tokens after the first ones divided by all of their time."""
    acceptance_length: float
    proposed: float
    """The number of proposed tokens in a round."""
    alternatives: float
    floor_share: float
    fastest_floor_share: float
    """The share of the floor by the fastest bare forward pass instead of the median."""
    hit_rate: float
    hidden: float
    bytes_per_round: float
    formula_share: float | None
    """The share of the formula; None where draft lengths vary."""
    times_ms: dict[str, float]
    """The times that the formula is made of."""


def tally(
    law: Sampling,
    way: str,
    rtt_ms: float,
    some: Sequence[Measured],
    bare: BareTimes | float,
) -> Row:
    """Returns the figures of the runs that were measured in one way.

    Args:
        bare: the time of a bare forward pass in seconds, by its width or for every width.
    """
    runs = [one.run for one in some]
    target, draft = _sum([one.target for one in some]), _sum([one.draft for one in some])
    hits = sum(target[f'outcome_hits_total{{arrival="{a}"}}'] for a in _ARRIVALS)
    misses = sum(target[f'outcome_misses_total{{reason="{r}"}}'] for r in _MISSES)
    hit_rate = hits / (hits + misses) if hits + misses else 0.0
    rounds = sum(r.rounds for r in runs)
    length = sum(r.later_tokens for r in runs) / sum(r.later_rounds for r in runs)
    proposed = sum(r.proposed for r in runs) / rounds
    alternatives = target["spec_decode_num_alternative_tokens_total"] / rounds
    width = 1 + proposed + alternatives
    median_s, fastest_s = _bare_steps_s(bare, width)
    trip_s = target.seconds("draft_round_trip")
    sent = sum(target[f'draft_bytes_total{{direction="{way}"}}'] for way in ("sent", "received"))
    times = _times_ms(way, rtt_ms, target, draft)
    wait_ms = times["T_v"] + times["r"] + times["K t_d"]
    round_ms = hit_rate * max(times["T_v"], times["T_tree"] + times["r"]) + (1 - hit_rate) * wait_ms
    rate = sum(r.later_tokens for r in runs) / sum(r.later_s for r in runs)
    each = [r.tokens_per_s for r in runs]
    low, median, high = statistics.quantiles(each, n=4, method="inclusive")
    return Row(
        law=str(law),
        way=way,
        rtt_ms=rtt_ms,
        tokens_per_s=(low, median, high),
        rate=rate,
        acceptance_length=length,
        proposed=proposed,
        alternatives=alternatives,
        floor_share=rate / (length / median_s),
        fastest_floor_share=rate / (length / fastest_s),
        hit_rate=hit_rate,
        hidden=target["draft_hidden_seconds_total"] / trip_s if trip_s else 0.0,
        bytes_per_round=sent / rounds,
        formula_share=None if way == "chosen" else rate / (length / round_ms * 1e3),
        times_ms=times,
    )


def _bare_steps_s(bare: BareTimes | float, width: float) -> tuple[float, float]:
    """Returns the median and the fastest time of a bare forward pass over `width` tokens."""
    if isinstance(bare, BareTimes):
        return bare.median_s(width), bare.fastest_s(width)
    return bare, bare


def _times_ms(way: str, rtt_ms: float, target: Counters, draft: Counters) -> dict[str, float]:
    """Returns the times that the formula is made of.

    Where every proposal is waited for, messages count as network.
    """
    if way == "synchronous":
        trip_s = target.seconds("draft_round_trip") / target["draft_round_trip_seconds_count"]
        rtt_ms = max(0.0, trip_s - draft.mean_s("propose")) * 1e3
    return {
        "T_v": (target.mean_s("step", "forward") + target.mean_s("step", "verification")) * 1e3,
        "K t_d": draft.mean_s("propose") * 1e3,
        "T_tree": draft.mean_s("draft_ahead") * 1e3,
        "r": rtt_ms,
    }


def _sum(some: Sequence[Counters]) -> Counters:
    total = some[0]
    for one in some[1:]:
        total = total + one
    return total


def table(title: str, rows: Sequence[Row]) -> str:
    """Returns Markdown: a grid, and how pushing at 5 ms compares with waiting at 0 ms."""
    lines = [
        (
            f"{row.law}, {row.way}",
            f"{row.rtt_ms:g}",
            f"{row.tokens_per_s[1]:.1f} ({row.tokens_per_s[0]:.1f} to {row.tokens_per_s[2]:.1f})",
            f"{row.acceptance_length:.2f}",
            f"{row.proposed:.1f}",
            f"{row.alternatives:.1f}" if row.alternatives else "",
            f"{row.floor_share:.0%}",
            f"{row.hit_rate:.0%}" if row.way != "synchronous" else "",
            f"{row.hidden:.0%}",
            f"{row.bytes_per_round:.0f}",
            f"{row.formula_share:.0%}" if row.formula_share else "",
        )
        for row in sorted(rows, key=lambda row: (row.law, -_WAYS.index(row.way), row.rtt_ms))
    ]
    at = {(row.law, row.way, row.rtt_ms): row.rate for row in rows}
    notes = [
        f"- {law}: {way} at {rtt:g} ms : synchronous at 0 ms: **{at[law, way, rtt] / rate:.2f}**"
        for (law, base, here), rate in at.items()
        if base == "synchronous" and here == 0
        for way in ("pushed", "chosen")
        for rtt in (0.0, 5.0)
        if (law, way, rtt) in at
    ]
    return "\n\n".join([f"### {title}", grid(_HEAD, lines), "\n".join(notes)])
