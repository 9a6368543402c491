"""Measures what distance costs: a draft behind a network, waited for or pushing ahead. Two cores,
Linux.

    make bench-distance                  # all of it: about 25 minutes on an idle machine
    make bench-distance ARGS=--write     # writes the results into benchmarks/

foredraft competes with itself and with arithmetic. This module knows nothing of transformers.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import adversary, machine
from benchmarks.arena import (
    CORES,
    MODELS,
    OUTCOMES,
    Course,
    RealPair,
    make_target,
    prompts,
    real_pair,
)
from benchmarks.bare import BareTimes
from benchmarks.contestants import Foredraft
from benchmarks.proxy import Proxy
from benchmarks.report import Section, grid
from benchmarks.runs import Assist, Prompt, Sampling
from benchmarks.services import Service, service
from benchmarks.tally import Measured, Row, table, tally
from benchmarks.worker import ROOT, Worker

K = 5
TARGET_MS, DRAFT_MS = 60.0, 6.0
"""The step times of the emulated pair: a draft token takes a tenth of a target step. With shorter
ones this CPU would not be done in time.
"""
WAYS = {
    "synchronous": Assist("model", K),
    "pushed": Assist("model", K),
    "chosen": Assist("goodput", 20),
}
"""The three ways: wait for every proposal; be pushed to; be pushed to with draft length and
alternatives as foredraft chooses.
"""
LAWS = (Sampling(0.0, 64), Sampling(0.7, 64), Sampling(0.7, 64, rule="coupled"))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rtts_ms: tuple[float, ...] = (0.0, 1.0, 5.0, 20.0)
    laws: tuple[Sampling, ...] = LAWS
    prompts: int = 6
    crowds: tuple[int, ...] = (1, 2, 4)
    """The numbers of targets that one draft serves."""
    pairs: int = adversary.PAIRS
    """The number of pairs of runs with and without a draft that is always wrong."""
    size: int = 0
    """The neurons of the widened target's MLPs; 0 finds a number."""
    real: RealPair | None = None
    """What is measured as it is, next to the widened pair."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A target that waits for its draft and one that is pushed to, both behind the same network."""

    synchronous: Service
    pushed: Service
    draft: Service
    proxy: Proxy


@contextmanager
def pair(
    folder: Path,
    target: Path,
    draft: Path = MODELS / "draft",
    step_ms: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Pair]:
    """Starts both services and a network between them. step_ms: the emulated step times of target
    and draft.
    """
    with ExitStack() as stack:
        logs = [
            folder / f"distance-{name}.log" for name in ("proxy", "draft", "synchronous", "pushed")
        ]
        alone = ("--ngram", "off")
        drafts = stack.enter_context(
            service("draft", draft, CORES[1:2], logs[1], *alone, step_ms=step_ms[1])
        )
        proxy = Proxy(
            stack.enter_context(Worker("benchmarks.proxy", CORES, logs[0])), drafts.address
        )

        def start(log: Path, outcomes: int) -> Service:
            flags = ("--draft", proxy.address, "--outcomes", str(outcomes))
            return stack.enter_context(
                service("target", target, CORES[:1], log, *flags, step_ms=step_ms[0])
            )

        yield Pair(start(logs[2], 0), start(logs[3], OUTCOMES), drafts, proxy)


def measure(
    plan: Plan, arena: Pair, step_s: float | BareTimes, texts: Sequence[Prompt]
) -> list[Row]:
    """Measures all rows; every prompt goes through all distances and ways before the next one.

    Args:
        bare: the time of a bare forward pass of the target in seconds, for every width or by width.
    """
    keys = [(law, way, rtt) for law in plan.laws for rtt in plan.rtts_ms for way in WAYS]
    runs: dict[tuple[Sampling, str, float], list[Measured]] = {key: [] for key in keys}
    for number, prompt in enumerate(texts):
        for law, way, rtt_ms in keys:
            arena.proxy.set(rtt_ms / 1e3)
            target = arena.synchronous if way == "synchronous" else arena.pushed
            runs[law, way, rtt_ms].append(
                _run(target, arena.draft, prompt, replace(law, seed=number), WAYS[way])
            )
        if isinstance(step_s, BareTimes):
            step_s.measure(repetitions=3)
    return [tally(*key, some, step_s) for key, some in runs.items()]


def _run(
    target: Service, draft: Service, prompt: Prompt, law: Sampling, assist: Assist = WAYS["pushed"]
) -> Measured:
    """Runs a prompt that was read in a call before, so that the metrics tell of rounds alone."""
    caller = f"{prompt.name} {law}"
    Foredraft(target).generate(prompt, assist, replace(law, max_new_tokens=4), caller)
    before = target.counters(), draft.counters()
    run = Foredraft(target).generate(prompt, assist, law, caller)
    return Measured(run, target.counters() - before[0], draft.counters() - before[1])


def crowd(folder: Path, texts: Sequence[Prompt], crowds: Sequence[int], law: Sampling) -> str:
    """Measures one emulated draft that serves several emulated targets, each with a stream of its
    own; returns Markdown.
    """
    lines: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        logs = folder / "crowd.log"
        alone = ("--ngram", "off")
        draft = stack.enter_context(
            service("draft", MODELS / "draft", CORES[1:2], logs, *alone, step_ms=DRAFT_MS)
        )
        flags = ("--draft", draft.address, "--outcomes", str(OUTCOMES))
        targets = [
            stack.enter_context(
                service("target", MODELS / "target", CORES[:1], logs, *flags, step_ms=TARGET_MS)
            )
            for _ in range(max(crowds))
        ]
        first = 0.0
        for count in crowds:
            with ThreadPoolExecutor(count) as pool:
                serving = targets[:count]
                measured = list(
                    pool.map(lambda t: [_run(t, draft, text, law) for text in texts], serving)
                )
            runs = [one.run for some in measured for one in some]
            rate = sum(r.later_tokens for r in runs) / sum(r.later_s for r in runs)
            first = first or rate
            rounds = sum(r.later_rounds for r in runs)
            length, step_s = sum(r.later_tokens for r in runs) / rounds, TARGET_MS / 1e3
            hits = sum(
                one.target['outcome_hits_total{arrival="in_time"}']
                for some in measured
                for one in some
            )
            share = f"{rate * step_s / length:.0%}"
            lines.append(
                (f"{count}", f"{rate:.1f}", f"{rate / first:.2f}", share, f"{hits / rounds:.0%}")
            )
    head = ("targets", "tokens/s of each", "ratio to one", "share of floor", "hits a round")
    return "\n\n".join([f"### One draft for several targets, emulated, {law}", grid(head, lines)])


def _on_cores(
    plan: Plan, folder: Path, target: Path, draft: Path, texts: Sequence[Prompt]
) -> list[Row]:
    """Measures a pair whose steps are computed, one core each."""
    lengths = sorted(len(p.ids) for p in texts)
    usual = lengths[len(lengths) // 2] + plan.laws[0].max_new_tokens // 2
    log = folder / "bare-target.log"
    with ExitStack() as stack:
        worker = Worker("benchmarks.bare", CORES[:1], log, "--model", str(target))
        bare = BareTimes(stack.enter_context(worker), usual)
        return measure(plan, stack.enter_context(pair(folder, target, draft)), bare, texts)


def run(plan: Plan, folder: Path, described: dict[str, str]) -> Section:
    """Measures all tables. folder: the place of the widened model and of the logs."""
    texts = prompts(plan.prompts)
    made = make_target(Course(size=plan.size), folder, texts)
    costly = _on_cores(plan, folder, folder / "target", MODELS / "draft", texts)
    with pair(folder, MODELS / "target", step_ms=(TARGET_MS, DRAFT_MS)) as emulated:
        accelerators = measure(plan, emulated, TARGET_MS / 1e3, texts)
    costs = adversary.measure(folder, folder / "target", texts, plan.pairs)
    steps = f"{TARGET_MS:g} ms a target step, {DRAFT_MS:g} ms a draft step, any width"
    parts = [
        grid(("", ""), list(described.items())),
        f"- {made}\n- {len(texts)} prompts, {plan.laws[0].max_new_tokens} new tokens each, k = "
        f"{K}, no early stop",
        table("A costly target and its draft, one core each", costly),
        table(f"An emulated pair: {steps}", accelerators),
        crowd(folder, texts, plan.crowds, plan.laws[0]),
        adversary.table(costs, plan.pairs),
    ]
    raw: dict[str, object] = {"real": costly, "emulated": accelerators, "adversary": costs}
    if plan.real:
        real = plan.real
        rows = _on_cores(plan, folder, real.target, real.draft, real.texts)
        raw["real model"] = rows
        parts.insert(3, table("A real model and its draft, one core each", rows))
    return Section("distance", "\n\n".join(parts) + "\n", raw)


def main() -> None:
    """Runs the benchmark and prints the report; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Measure what distance between target and draft costs."
    )
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--write", action="store_true", help="write the results into benchmarks/")
    args = parser.parse_args()
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    described = machine.describe(f"make bench-distance ARGS='{shlex.join(sys.argv[1:])}'")
    plan = Plan(prompts=args.prompts, real=real_pair(args.prompts))
    section = run(plan, folder, described)
    print(section.markdown)
    if args.write:
        section.write()


if __name__ == "__main__":
    main()
