"""Measures one stream at a time: foredraft next to transformers, on a target made costly. Two
cores, Linux.

    make bench                    # all of it: about an hour on an idle machine
    make bench ARGS=--quick       # a short form: it shows that everything runs
    make bench ARGS=--write       # writes the results into benchmarks/

This module knows nothing of how anybody generates: it chooses the rivals and the tables.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import budget, machine, summary
from benchmarks.arena import CORES, QUICK, Arena, Course, make_target, open_arena, prompts
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
    report, exact = run(course, folder, machine.describe(_command(sys.argv[1:])))
    print(report.markdown())
    if args.write:
        report.write()
    return 0 if exact else 1


def run(course: Course, folder: Path, described: dict[str, str]) -> tuple[Report, bool]:
    """Returns the report, and whether all of foredraft's greedy texts were those of transformers'
    plain decoding.

    Args:
        folder: the place of the widened model and of the logs.
    """
    began = time.monotonic()
    texts = prompts(course.prompts)
    with ExitStack() as stack:
        setting = [make_target(course, folder, texts)]
        arena = open_arena(course, folder, texts, stack)
        _say(setting[0])
        tables, raw, exact = [], {}, True
        for temperature in course.temperatures:
            lanes, heats = _measure(course, arena, texts, Sampling(temperature, course.new_tokens))
            lines = summary.lines(lanes, heats, arena.bare_target)
            tables += _tables(temperature, lanes, heats, lines, arena.bare_target)
            raw[f"temperature {temperature:g}"] = _raw(lanes, heats)
            if temperature == 0:
                exact = all(
                    ln.equal_texts == len(heats) for ln in lines if ln.name.startswith("foredraft")
                )
        times = arena.bare_target, arena.bare_draft
        budgets = [
            budget.measure(
                k, texts, Sampling(temperature, course.new_tokens), arena.target, arena.draft, times
            )
            for temperature in course.temperatures
            for k in course.budgets
        ]
    setting += [
        f"{len(texts)} prompts of {min(len(p.ids) for p in texts)} to "
        f"{max(len(p.ids) for p in texts)} tokens, "
        f"{course.new_tokens} new tokens each, {course.repetitions} repetitions; "
        f"tuned on {course.tuning_prompts} of the prompts",
        f"the whole took {(time.monotonic() - began) / 60:.0f} minutes",
    ]
    bare_ms = {"target": arena.bare_target.table_ms(), "draft": arena.bare_draft.table_ms()}
    return Report(described, tuple(setting), tuple(tables), tuple(budgets), bare_ms, raw), exact


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
    return f"make bench ARGS='{shlex.join(arguments)}'" if arguments else "make bench"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
