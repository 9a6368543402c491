"""From runs and the services' metrics to the figures of one way of drafting at one distance, and to a table.

Knows nothing of how the network was made.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import grid
from benchmarks.runs import Run, Sampling
from benchmarks.services import Counters

_ARRIVALS = ("in_time", "late")
_MISSES = ("unforeseen", "late")
_HEAD = (
    "", "RTT, ms", "tokens/s (quartiles)", "mean acceptance length", "share of floor", "hit rate", "hidden",
    "bytes a round", "share of formula",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """A run, and by how much the metrics of both services grew in it."""

    run: Run
    target: Counters
    draft: Counters


@dataclass(frozen=True, slots=True)
class Row:
    """One way of drafting at one distance."""

    law: str
    pushed: bool
    rtt_ms: float
    tokens_per_s: tuple[float, float, float]
    """Quartiles."""
    rate: float
    """All tokens after the first ones by all of their time."""
    acceptance_length: float
    floor_share: float
    hit_rate: float
    hidden: float
    bytes_per_round: float
    formula_share: float
    times_ms: dict[str, float]
    """That the formula is made of."""


def tally(
    law: Sampling,
    pushed: bool,
    rtt_ms: float,
    some: Sequence[Measured],
    bare: tuple[float, float],
) -> Row:
    """law to rtt_ms: what was measured; bare: fastest and median forward pass over k + 1 tokens, in seconds."""
    runs = [one.run for one in some]
    target, draft = _sum([one.target for one in some]), _sum([one.draft for one in some])
    hits = sum(target[f'outcome_hits_total{{arrival="{a}"}}'] for a in _ARRIVALS)
    misses = sum(target[f'outcome_misses_total{{reason="{r}"}}'] for r in _MISSES)
    hit_rate = hits / (hits + misses) if hits + misses else 0.0
    length = sum(r.later_tokens for r in runs) / sum(r.later_rounds for r in runs)
    trip_s, wait_s = target.seconds("draft_round_trip"), target.seconds("draft_wait")
    sent = sum(target[f'draft_bytes_total{{direction="{way}"}}'] for way in ("sent", "received"))
    trips = target["draft_round_trip_seconds_count"]
    network_s = max(0.0, trip_s / trips - draft.mean_s("propose")) if not pushed else rtt_ms / 1e3
    times = {
        "T_v": (target.mean_s("step", "forward") + target.mean_s("step", "verification")) * 1e3,
        "K t_d": draft.mean_s("propose") * 1e3,
        "T_tree": draft.mean_s("draft_ahead") * 1e3,
        "r": network_s * 1e3,
    }
    wait_ms = times["T_v"] + times["r"] + times["K t_d"]
    round_ms = hit_rate * max(times["T_v"], times["T_tree"] + times["r"]) + (1 - hit_rate) * wait_ms
    rate = sum(r.later_tokens for r in runs) / sum(r.later_s for r in runs)
    low, median, high = statistics.quantiles([r.tokens_per_s for r in runs], n=4, method="inclusive")
    return Row(
        law=str(law),
        pushed=pushed,
        rtt_ms=rtt_ms,
        tokens_per_s=(low, median, high),
        rate=rate,
        acceptance_length=length,
        floor_share=rate / (length / bare[0]),
        hit_rate=hit_rate,
        hidden=1 - wait_s / trip_s,
        bytes_per_round=sent / sum(r.rounds for r in runs),
        formula_share=rate / (length / round_ms * 1e3),
        times_ms=times,
    )


def _sum(some: Sequence[Counters]) -> Counters:
    total = some[0]
    for one in some[1:]:
        total = total + one
    return total


def table(title: str, rows: Sequence[Row]) -> str:
    """Markdown: a grid, and how pushing at 5 ms compares with waiting at none."""
    lines = [
        (
            f"{row.law}, {'pushed' if row.pushed else 'synchronous'}",
            f"{row.rtt_ms:g}",
            f"{row.tokens_per_s[1]:.1f} ({row.tokens_per_s[0]:.1f} to {row.tokens_per_s[2]:.1f})",
            f"{row.acceptance_length:.2f}",
            f"{row.floor_share:.0%}",
            f"{row.hit_rate:.0%}" if row.pushed else "",
            f"{row.hidden:.0%}",
            f"{row.bytes_per_round:.0f}",
            f"{row.formula_share:.0%}",
        )
        for row in sorted(rows, key=lambda row: (row.law, row.pushed, row.rtt_ms))
    ]
    at = {(row.law, row.pushed, row.rtt_ms): row.rate for row in rows}
    notes = [
        f"- {law}: pushed at {rtt:g} ms : synchronous at 0 ms: **{at[law, True, rtt] / rate:.2f}**"
        for (law, pushed, here), rate in at.items()
        if not pushed and here == 0
        for rtt in (0.0, 5.0)
        if (law, True, rtt) in at
    ]
    return "\n\n".join([f"### {title}", grid(_HEAD, lines), "\n".join(notes)])
