"""Measures one stream at a time: foredraft next to transformers, on a target made costly and on a
real model. Two cores, Linux.

    make bench-one-stream                    # all of it: some two hours on an idle machine
    make bench-one-stream ARGS=--quick       # a short form: it shows that everything runs
    make bench-one-stream ARGS=--write       # writes the results into benchmarks/

This module knows nothing of how anybody generates: it chooses the rivals and the tables.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import budget, machine, summary
from benchmarks.arena import (
    CORES,
    MODELS,
    QUICK,
    Arena,
    Course,
    Models,
    RealPair,
    make_target,
    open_arena,
    prompts,
    real_pair,
)
from benchmarks.bare import BareTimes
from benchmarks.race import Heat, race
from benchmarks.report import Report, Table
from benchmarks.runs import Prompt, Sampling
from benchmarks.summary import Line
from benchmarks.tuning import Lane, tune
from benchmarks.worker import ROOT

_DUELS = (
    ("foredraft, model draft pushed ahead", "transformers, assistant model"),
    ("foredraft, model draft pushed ahead", "foredraft, model draft"),
    ("foredraft, model draft", "transformers, assistant model"),
    ("foredraft, model draft", "transformers with our packed weights, assistant model"),
    ("foredraft, model draft", "transformers, assistant model, both cores"),
    ("foredraft, n-grams", "transformers, prompt lookup"),
    ("foredraft, plain", "transformers, plain"),
)


def main() -> int:
    """Runs the benchmark and prints the report; the exit code says whether foredraft's greedy texts
    are transformers'.
    """
    parser = argparse.ArgumentParser(
        description="Measure foredraft beside transformers, one stream at a time."
    )
    parser.add_argument("--quick", action="store_true", help="a short form")
    parser.add_argument("--repetitions", type=int, help="of every prompt")
    parser.add_argument("--prompts", type=int, help="fewer of them, for less time")
    parser.add_argument("--write", action="store_true", help="write the results into benchmarks/")
    args = parser.parse_args()
    if len(CORES) < 2:
        parser.error("two cores are needed: one for the target, one for the draft")
    course = QUICK if args.quick else Course()
    course = replace(
        course,
        repetitions=args.repetitions or course.repetitions,
        prompts=args.prompts or course.prompts,
    )
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    described = machine.describe(_command(sys.argv[1:]))
    report, exact = run(course, folder, described, real_pair(course.prompts))
    print(report.markdown())
    if args.write:
        report.write()
    return 0 if exact else 1


def run(
    course: Course, folder: Path, described: dict[str, str], real: RealPair | None = None
) -> tuple[Report, bool]:
    """Returns the report, and whether all of foredraft's greedy texts were those of transformers'
    plain decoding.

    Args:
        folder: the place of the widened model and of the logs.
        real: what is measured as it is, after the widened pair.
    """
    began, texts = time.monotonic(), prompts(course.prompts)
    setting = [make_target(course, folder, texts)]
    _say(setting[0])
    widened = Models(folder / "target", MODELS / "draft")
    with ExitStack() as stack:
        arena = open_arena(course, folder, widened, texts, stack)
        found = _compete(course, arena, texts)
        times = arena.bare_target, arena.bare_draft
        budgets = [
            budget.measure(
                k, texts, Sampling(temperature, course.new_tokens), arena.target, arena.draft, times
            )
            for temperature in course.temperatures
            for k in course.budgets
        ]
    tables, raw, exact = found.tables, found.raw, found.exact
    if real:
        with ExitStack() as stack:
            models = Models(real.target, real.draft, is_whole=False)
            arena = open_arena(course, folder, models, real.texts, stack)
            found = _compete(course, arena, real.texts, "A real model and its draft. ")
        tables, raw, exact = tables + found.tables, raw | found.raw, exact and found.exact
    setting += [
        f"{len(texts)} prompts of {min(len(p.ids) for p in texts)} to "
        f"{max(len(p.ids) for p in texts)} tokens, "
        f"{course.new_tokens} new tokens each, {course.repetitions} repetitions; "
        f"tuned on {course.tuning_prompts} of the prompts",
        *([f"{len(real.texts)} questions to the real model"] if real else []),
        f"the whole took {(time.monotonic() - began) / 60:.0f} minutes",
    ]
    bare_ms = {"target": times[0].table_ms(), "draft": times[1].table_ms()}
    return Report(described, tuple(setting), tuple(tables), tuple(budgets), bare_ms, raw), exact


@dataclass(frozen=True, slots=True)
class _Found:
    """What one pair of models showed."""

    tables: list[Table]
    raw: dict[str, Any]
    exact: bool
    """Whether all of foredraft's greedy texts were those of transformers' plain decoding."""


def _compete(course: Course, arena: Arena, texts: Sequence[Prompt], title: str = "") -> _Found:
    """Lets all rivals generate; the title goes before those of the tables."""
    tables, raw, exact = list[Table](), dict[str, Any](), True
    for temperature in course.temperatures:
        lanes, heats = _measure(course, arena, texts, Sampling(temperature, course.new_tokens))
        lines = summary.lines(lanes, heats, arena.bare_target)
        made = _tables(temperature, lanes, heats, lines, arena.bare_target)
        tables += [replace(table, title=title + table.title) for table in made]
        raw[f"{title}temperature {temperature:g}"] = _raw(lanes, heats)
        if temperature == 0:
            exact = all(
                ln.equal_texts == len(heats) for ln in lines if ln.name.startswith("foredraft")
            )
    return _Found(tables, raw, exact)


def _measure(
    course: Course, arena: Arena, texts: Sequence[Prompt], sampling: Sampling
) -> tuple[list[Lane], list[Heat]]:
    for rival in arena.rivals:  # this warms up what is slow once
        rival.generator.generate(texts[0], rival.grid[0], sampling)
    chosen = texts[:: max(1, len(texts) // course.tuning_prompts)][: course.tuning_prompts]
    lanes = []
    for rival in arena.rivals:
        lanes.append(tune(rival, chosen, sampling))
        _say(
            f"temperature {sampling.temperature:g}: {rival.name}: "
            f"{str(lanes[-1].assist) or 'nothing to tune'}"
        )
    return lanes, race(lanes, texts, sampling, range(course.repetitions), arena.bare_target, _say)


def _tables(
    temperature: float,
    lanes: Sequence[Lane],
    heats: Sequence[Heat],
    lines: Sequence[Line],
    bare: BareTimes,
) -> list[Table]:
    at = {lane.rival.name: index for index, lane in enumerate(lanes)}

    def duels(chosen: Sequence[Heat]) -> tuple[tuple[str, summary.Spread], ...]:
        return tuple(
            (f"{a} : {b}", summary.ratio(chosen, at[a], at[b])) for a, b in _DUELS if b in at
        )

    notes = [f"{line.fallbacks} rounds fell back: {line.name}" for line in lines if line.fallbacks]
    if temperature > 0:
        return [Table(f"Temperature {temperature:g}", tuple(notes), tuple(lines), duels(heats))]
    odd = [
        f"{line.name} ({len(heats) - line.equal_texts})"
        for line in lines
        if line.equal_texts < len(heats)
    ]
    equal = (
        f"texts that differ from plain transformers': {', '.join(odd) or 'none'}, of "
        f"{len(heats)} each"
    )
    varied = [heat for heat in heats if not summary.loops(heat.runs[0].ids)]
    tables = [Table("Greedy", (equal, *notes), tuple(lines), duels(heats))]
    if 0 < len(varied) < len(heats):
        title = f"Greedy, the {len(varied)} of {len(heats)} texts that do not end in a loop"
        tables.append(Table(title, (), tuple(summary.lines(lanes, varied, bare)), duels(varied)))
    return tables


def _raw(lanes: Sequence[Lane], heats: Sequence[Heat]) -> dict[str, object]:
    def entry(at: int, lane: Lane) -> dict[str, object]:
        runs = [
            {"prompt": h.prompt, **asdict(h.runs[at]), "ids": len(h.runs[at].ids)} for h in heats
        ]
        return {"options": str(lane.assist), "tuning": dict(lane.tried), "runs": runs}

    return {lane.rival.name: entry(at, lane) for at, lane in enumerate(lanes)}


def _command(arguments: Sequence[str]) -> str:
    command = "make bench-one-stream"
    return f"{command} ARGS='{shlex.join(arguments)}'" if arguments else command


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
