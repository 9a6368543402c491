"""Measures a target without a draft service: n-grams that it looks up by itself against plain
decoding. Two cores, Linux.

    make bench-lookups
    make bench-lookups ARGS='--target DIRECTORY --streams 1 16'
    make bench-lookups ARGS='--target DIRECTORY --streams 1 8 --context 2000'

A text that quotes is asked for by a prompt that holds it: some beginning, how the target went on
from it, and the beginning again. A free text is sampled. Both kinds are measured with several
streams at once, in interleaved pairs; prompts are read before, so that decoding alone is measured.
The target has the first core, the client the second.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arena import CORES, MODELS, prompts
from benchmarks.report import grid
from benchmarks.services import service
from benchmarks.worker import ROOT
from foredraft import Client

_BEGINNING = 48  # tokens
_FREE = {"do_sample": True, "temperature": 1.0, "top_k": 0}
_PLAIN = {"num_assistant_tokens": 0}
Fields = dict[str, Any]


class Bench:
    """A target and what is asked of it."""

    def __init__(self, client: Client, new_tokens: int) -> None:
        self._client, self._new_tokens = client, new_tokens

    def quoting(self, count: int) -> list[list[int]]:
        """Returns prompts after which the target repeats itself."""
        beginnings = [list(prompt.ids[:_BEGINNING]) for prompt in prompts(count)]
        with ThreadPoolExecutor(count) as pool:
            texts = list(pool.map(lambda ids: self._ask(ids, {}).token_ids, beginnings))
        return [[*ids, *text, *ids] for ids, text in zip(beginnings, texts, strict=True)]

    def cells(
        self, kind: str, asked: Sequence[list[int]], fields: Fields, pairs: int
    ) -> tuple[str, ...]:
        """Measures one number of streams; returns the cells of the table."""
        for own in (_PLAIN, {}):
            self._seconds(asked, {**fields, **own})
        ratios, rates, proposed, accepted = [], [], 0, 0
        for turn in range(pairs):
            spent_s = {}
            for name in (("plain", "default"), ("default", "plain"))[turn % 2]:
                own = _PLAIN if name == "plain" else {}
                spent_s[name], stats = self._seconds(asked, {**fields, **own})
                proposed += sum(one.proposed for one in stats)
                accepted += sum(one.accepted for one in stats)
            ratios.append(spent_s["plain"] / spent_s["default"])
            rates.append(len(asked) * self._new_tokens / spent_s["default"])
        low, high = min(ratios), max(ratios)
        tokens = pairs * len(asked) * self._new_tokens
        return (
            kind,
            str(len(asked)),
            f"**{statistics.median(ratios):.2f}** ({low:.2f} to {high:.2f})",
            f"{statistics.median(rates):.0f}",
            f"{proposed / tokens:.2f}",
            f"{accepted / proposed:.0%}" if proposed else "",
        )

    def _seconds(self, asked: Sequence[list[int]], fields: Fields) -> tuple[float, list[Any]]:
        began = time.perf_counter()
        with ThreadPoolExecutor(len(asked)) as pool:
            results = list(pool.map(lambda ids: self._ask(ids, fields), asked))
        return time.perf_counter() - began, [result.stats for result in results]

    def _ask(self, ids: list[int], fields: Fields) -> Any:
        return self._client.generate(
            ids, max_new_tokens=self._new_tokens, eos_token_id=[], **fields
        )


def _noise(prompt: int, count: int) -> list[int]:
    """Returns tokens before a prompt, in which nothing repeats that matters."""
    draw = random.Random(prompt)
    return [draw.randrange(100, 4000) for _ in range(count)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure n-grams that a target looks up itself.")
    parser.add_argument("--quick", action="store_true", help="a short form: that everything runs")
    parser.add_argument("--pairs", type=int, default=7, help="runs of each side")
    parser.add_argument(
        "--context", type=int, default=0, help="tokens of a prompt, with noise before what is asked"
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument(
        "--target", type=Path, default=MODELS / "target", help="the target model's directory"
    )
    return parser.parse_args()


def main() -> int:
    """Measures all numbers of streams and prints a table; returns the exit code."""
    args = _arguments()
    pairs, new_tokens = (1, 16) if args.quick else (args.pairs, 96)
    log = ROOT / "build" / "benchmarks" / "lookups.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, CORES[-1:])
    most = max(args.streams)
    with (
        service("target", args.target, CORES[:1], log, "--rows", str(2 * most)) as target,
        Client(target.address, timeout=600) as client,
    ):
        bench = Bench(client, new_tokens)
        command = f"make bench-lookups ARGS='{' '.join(sys.argv[1:])}'"
        print(grid(("", ""), list(machine.describe(command).items())))
        quoting, free = (
            [[*_noise(i, args.context - len(ids)), *ids] for i, ids in enumerate(each)]
            for each in (bench.quoting(most), [list(prompt.ids) for prompt in prompts(most)])
        )
        rows = [
            bench.cells(kind, (asked * most)[:n], fields, pairs)
            for n in args.streams
            for kind, asked, fields in (("quotes", quoting, {}), ("free", free, _FREE))
        ]
    header = ("text", "streams", "plain : default", "tokens/s", "proposed a token", "accepted")
    print("\n" + grid(header, rows))
    print("\nThe ratio of times: the median (least to most) of interleaved pairs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
