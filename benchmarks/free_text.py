"""Measures answers of the real model that quote nothing, with its draft and without. Two cores,
Linux.

    make bench-free-text

The target has both cores and shares one with the draft, so that nothing is drafted ahead. Nobody
looks up n-grams. Every question is answered in all ways before the next one; texts are greedy and
go on past their ends.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arena import CORES, MODELS
from benchmarks.report import grid
from benchmarks.services import service
from benchmarks.worker import ROOT
from demo.instructions import HELD_OUT
from demo.real_model import smollm2
from foredraft import Client

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"num_assistant_tokens": 0},
    "draft length as chosen": {},
    "2 drafted tokens": {"num_assistant_tokens": 2, "assistant_confidence_threshold": 0.0},
    "4 drafted tokens": {"num_assistant_tokens": 4, "assistant_confidence_threshold": 0.0},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, after its first tokens."""

    ids: tuple[int, ...]
    tokens_per_s: float
    acceptance_length: float
    proposed: float
    """The proposed tokens of a round."""


def ask(client: Client, question: str, tokens: int, fields: dict[str, Any]) -> Answer:
    """Asks a question; the time begins with the first tokens of the answer."""
    began = first = 0.0
    chat = [{"role": "user", "content": question}]
    with client.stream(chat, max_new_tokens=tokens, eos_token_id=[], **fields) as stream:
        for chunk in stream:
            if not began:
                began, first = time.perf_counter(), len(chunk.token_ids)
        spent_s = time.perf_counter() - began
    ids, stats = stream.result.token_ids, stream.result.stats
    rate, length = (len(ids) - first) / spent_s, stats.mean_acceptance_length
    return Answer(ids, rate, length, stats.proposed / stats.rounds)


def table(answers: dict[str, list[Answer]]) -> str:
    """Returns the medians over the questions."""
    rows = []
    for way, its in answers.items():
        pairs = zip(its, answers["plain"], strict=True)
        ratio = statistics.median(one.tokens_per_s / plain.tokens_per_s for one, plain in pairs)
        equal = sum(one.ids == plain.ids for one, plain in zip(its, answers["plain"], strict=True))
        rows.append(
            (
                way,
                f"{statistics.median(one.tokens_per_s for one in its):.1f}",
                f"{ratio:.2f}",
                f"{statistics.mean(one.acceptance_length for one in its):.2f}",
                f"{statistics.mean(one.proposed for one in its):.2f}",
                f"{equal} of {len(its)}",
            )
        )
    head = ("way", "tokens/s", "ratio to plain", "mean acceptance length", "proposed a round")
    return grid((*head, "equal texts"), rows)


def measure(client: Client, questions: Sequence[str], tokens: int) -> dict[str, list[Answer]]:
    """Answers every question in all ways."""
    answers: dict[str, list[Answer]] = {way: [] for way in WAYS}
    for fields in WAYS.values():
        ask(client, questions[0], 8, fields)  # warms up what is slow once
    for number, question in enumerate(questions):
        ways = list(WAYS.items())
        for way, fields in ways if number % 2 else reversed(ways):
            answers[way].append(ask(client, question, tokens, fields))
    return answers


def main() -> int:
    """Measures and prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure free text with a draft and without.")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--target", type=Path, help="another target than the real model")
    parser.add_argument("--draft", type=Path, default=MODELS / "smollm2-draft")
    parser.add_argument("--ahead", action="store_true", help="draft ahead, beside the target")
    args = parser.parse_args()
    target, log = args.target or smollm2(), ROOT / "build" / "benchmarks" / "free-text.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    alone = ("--rows", "2", "--max-length", "1024", "--dtype", "float32")
    outcomes = "32" if args.ahead else "0"
    verifying = ("--fallback", "none", "--outcomes", outcomes, *alone)
    with (
        service("draft", args.draft, CORES[-1:], log, "--ngram", "off", *alone) as draft,
        service("target", target, CORES, log, "--draft", draft.address, *verifying) as served,
        Client(served.address, timeout=600) as client,
    ):
        answers = measure(client, HELD_OUT[: args.questions], args.tokens)
    command = f"make bench-free-text ARGS='{' '.join(sys.argv[1:])}'"
    print(grid(("", ""), list(machine.describe(command).items())))
    print("\n" + table(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
