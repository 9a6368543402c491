"""Measures whether pushing as foredraft chooses is ever slower than waiting: a draft at 5 ms of
round trip that may push, beside the same draft at 0 ms that is waited for. Two cores, Linux.

    make bench-pushing                          # five minutes
    make bench-pushing ARGS='--steps 15'        # one emulated target: under two minutes

Draft length, number of outcomes and, in sampling, the rule are foredraft's own choice on both
sides. All ways take turns at each prompt. The target has the first core, the draft the second; both
are emulated, see `benchmarks.emulated`, the draft with a tenth of the target's step.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arena import CORES, MODELS, prompts
from benchmarks.proxy import Proxy
from benchmarks.report import grid
from benchmarks.runs import Prompt
from benchmarks.services import service
from benchmarks.worker import ROOT, Worker
from foredraft import Client

LAWS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 1.0},
}
OUTCOMES, FAR_S = "32", 0.005
_BASE = "waiting at 0 ms"
WAYS = {
    _BASE: ("0", 0.0),
    "chosen at 0 ms": (OUTCOMES, 0.0),
    "chosen at 5 ms": (OUTCOMES, FAR_S),
}
"""The largest number of outcomes and the round trip of each way, which is a target of its own."""


@dataclass(slots=True)
class Tally:
    """The runs of one way under one law."""

    tokens_per_s: list[float] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    pushed: int = 0
    proposed: int = 0

    def add(self, tokens_per_s: float, stats: Any) -> None:
        """Adds one text."""
        self.tokens_per_s.append(tokens_per_s)
        self.rules[stats.sampling_rule] += 1
        self.rounds += stats.rounds
        self.pushed += stats.pushed
        self.proposed += stats.proposed

    def cells(self, base: "Tally") -> tuple[str, ...]:
        """Returns the cells of the table, beside the way that all are compared with."""
        rate = statistics.harmonic_mean(self.tokens_per_s)
        ratios = [a / b for a, b in zip(self.tokens_per_s, base.tokens_per_s, strict=True)]
        whole = rate / statistics.harmonic_mean(base.tokens_per_s)
        low, _, high = statistics.quantiles(ratios, n=4)
        return (
            f"{rate:.1f}",
            f"**{whole:.2f}** ({low:.2f} to {high:.2f})" if self is not base else "",
            f"{self.pushed / self.rounds:.0%}",
            f"{self.proposed / self.rounds:.1f}",
            ", ".join(f"{rule} {n}" for rule, n in sorted(self.rules.items())),
        )


class Bench:
    """One draft, and a target for each way."""

    def __init__(self, targets: dict[str, Client], new_tokens: int) -> None:
        self._targets, self._new_tokens = targets, new_tokens

    def measure(self, law: str, texts: Sequence[Prompt], warm: int) -> list[tuple[str, ...]]:
        """Returns the lines of a law; every prompt goes through all ways before the next one.

        Args:
            warm: the number of texts before, from which the services learn how long things take.
        """
        tallies = {way: Tally() for way in WAYS}
        for number, text in enumerate([*islice(cycle(texts), warm), *texts]):
            for way, target in self._targets.items():
                one = self._run(target, text, LAWS[law])
                if number >= warm:
                    tallies[way].add(*one)
        return [(law, way, *tally.cells(tallies[_BASE])) for way, tally in tallies.items()]

    def _run(self, client: Client, text: Prompt, law: dict[str, Any]) -> tuple[float, Any]:
        """Returns the tokens per second after the first ones, and the statistics of the text."""
        first_s, first_tokens, began = 0.0, 0, time.perf_counter()
        fields = {**law, "max_new_tokens": self._new_tokens, "assistant_confidence_threshold": 0.0}
        with client.stream(list(text.ids), eos_token_id=[], **fields) as stream:
            for chunk in stream:
                if not first_tokens:
                    first_s, first_tokens = time.perf_counter() - began, len(chunk.token_ids)
        rest_s, result = time.perf_counter() - began - first_s, stream.result
        return (len(result.token_ids) - first_tokens) / rest_s, result.stats


@contextmanager
def bench(step_ms: float, folder: Path, new_tokens: int) -> Iterator[Bench]:
    """Starts a draft, and a network and a target for each way."""
    with ExitStack() as stack:
        enter, log = stack.enter_context, folder / "pushing.log"
        no_ngrams = ("--ngram", "off")
        draft = enter(
            service("draft", MODELS / "draft", CORES[1:2], log, *no_ngrams, step_ms=step_ms / 10)
        )
        targets = {}
        for way, (outcomes, rtt_s) in WAYS.items():
            network = enter(Worker("benchmarks.proxy", CORES, folder / "pushing-proxy.log"))
            proxy = Proxy(network, draft.address)
            proxy.set(rtt_s)
            flags = ("--draft", proxy.address, "--outcomes", outcomes, "--fallback", "none")
            target = enter(
                service("target", MODELS / "target", CORES[:1], log, *flags, step_ms=step_ms)
            )
            targets[way] = enter(Client(target.address, timeout=600))
        yield Bench(targets, new_tokens)


def main() -> int:
    """Measures and prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure pushing, as chosen, beside waiting.")
    parser.add_argument("--steps", type=float, nargs="+", default=[15.0, 30.0, 60.0], help="ms")
    parser.add_argument("--laws", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--warm", type=int, default=4, help="texts before anything is measured")
    parser.add_argument("--tokens", type=int, default=96, help="new tokens of a text")
    args = parser.parse_args()
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    described = machine.describe(f"make bench-pushing ARGS='{' '.join(sys.argv[1:])}'")
    print(grid(("", ""), list(described.items())), flush=True)
    texts, rows = prompts(args.prompts), []
    for step_ms in args.steps:
        with bench(step_ms, folder, args.tokens) as measured:
            for law in args.laws:
                lines = measured.measure(law, texts, args.warm)
                rows += [(f"{step_ms:g} ms", *line) for line in lines]
    head = ("target", "law", "way", "tokens/s", f"ratio to {_BASE}", "pushed", "proposed", "rules")
    print("\n" + grid(head, rows))
    print("\nThe ratio is that of the times of all texts, with the quartiles of single texts.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
