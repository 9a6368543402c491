"""Measures JSON of the real model under schemas, with forced tokens and without. Two cores, Linux.

    make bench-grammar

Every question is answered in all ways before the next one, greedily and up to the end of the
text. A target without `--no-forced-tokens` proposes what the schema leaves no choice about. The
targets share both cores, of which a draft takes one too; only one of them works at a time.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arena import CORES, MODELS
from benchmarks.report import grid
from benchmarks.services import service
from benchmarks.worker import ROOT
from demo.real_model import smollm2
from foredraft import Client

_TEXT = {"type": "string", "maxLength": 40}
_PLAIN = {"num_assistant_tokens": 0}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "Describe a person who writes novels.": (
        "first_name",
        "last_name",
        "country",
        "best_known_for",
    ),
    "Describe a bicycle that is for sale.": (
        "product_name",
        "manufacturer",
        "description",
        "colour",
    ),
    "What is the weather in Lisbon in May?": ("location", "temperature", "conditions", "humidity"),
    "Plan a birthday party.": ("event_name", "start_time", "meeting_place", "number_of_guests"),
    "Report a bug of a text editor.": (
        "title",
        "steps_to_reproduce",
        "expected_behaviour",
        "severity",
    ),
    "Recommend a book about the sea.": ("book_title", "author_name", "publication_year", "summary"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, after its first tokens."""

    ids: tuple[int, ...]
    tokens_per_s: float
    acceptance_length: float
    forced: float
    """The share of tokens that the schema forced and the target proposed."""


def ask(client: Client, question: str, tokens: int, fields: Mapping[str, Any]) -> Answer:
    """Asks a question; the time begins with the first tokens of the answer."""
    keys = QUESTIONS[question]
    schema = {
        "type": "object",
        "properties": dict.fromkeys(keys, _TEXT),
        "required": list(keys),
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"schema": schema}}
    chat = [{"role": "user", "content": f"{question} Answer in JSON with {', '.join(keys)}."}]
    began = first = 0.0
    own = {"response_format": wanted, "max_new_tokens": tokens, **fields}
    with client.stream(chat, **own) as stream:
        for chunk in stream:
            if not began:
                began, first = time.perf_counter(), len(chunk.token_ids)
        spent_s = time.perf_counter() - began
    result = stream.result
    count = len(result.token_ids)
    forced = result.origins.count("grammar") / count
    length = result.stats.mean_acceptance_length
    return Answer(result.token_ids, (count - first) / spent_s, length, forced)


def table(answers: Mapping[str, Sequence[Answer]]) -> str:
    """Returns the medians over the questions."""
    plain = answers["plain"]
    rows = []
    for way, its in answers.items():
        ratios = [one.tokens_per_s / p.tokens_per_s for one, p in zip(its, plain, strict=True)]
        equal = sum(one.ids == p.ids for one, p in zip(its, plain, strict=True))
        rows.append(
            (
                way,
                f"{statistics.median(one.tokens_per_s for one in its):.1f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{statistics.mean(one.acceptance_length for one in its):.2f}",
                f"{statistics.mean(one.forced for one in its):.0%}",
                f"{equal} of {len(its)}",
            )
        )
    head = ("way", "tokens/s", "ratio to plain", "mean acceptance length", "forced tokens")
    return grid((*head, "equal texts"), rows)


def measure(
    ways: Mapping[str, tuple[Client, Mapping[str, Any]]], questions: Sequence[str], tokens: int
) -> dict[str, list[Answer]]:
    """Answers every question in all ways."""
    answers: dict[str, list[Answer]] = {way: [] for way in ways}
    for client, fields in ways.values():
        ask(client, questions[0], 8, fields)  # warms up what is slow once
    for number, question in enumerate(questions):
        order = list(ways.items())
        for way, (client, fields) in order if number % 2 else reversed(order):
            answers[way].append(ask(client, question, tokens, fields))
    return answers


def main() -> int:
    """Measures and prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure JSON under schemas.")
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--target", type=Path, help="another target than the real model")
    parser.add_argument("--draft", type=Path, default=MODELS / "smollm2-draft")
    args = parser.parse_args()
    target, log = args.target or smollm2(), ROOT / "build" / "benchmarks" / "grammar.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    alone = ("--rows", "2", "--max-length", "1024", "--dtype", "float32", "--compile", "off")
    with ExitStack() as stack:
        drafting = ("draft", args.draft, CORES[-1:], log, "--ngram", "off", *alone)
        draft = ("--draft", stack.enter_context(service(*drafting)).address, "--outcomes", "0")

        def client(*flags: str) -> Client:
            served = stack.enter_context(service("target", target, CORES, log, *alone, *flags))
            return stack.enter_context(Client(served.address, timeout=600))

        without = client("--no-forced-tokens")
        ways: dict[str, tuple[Client, Mapping[str, Any]]] = {
            "plain": (without, _PLAIN),
            "n-grams": (without, {}),
            "forced tokens and n-grams": (client(), {}),
            "draft": (client("--no-forced-tokens", *draft), {}),
            "draft and forced tokens": (client(*draft), {}),
        }
        answers = measure(ways, list(QUESTIONS)[: args.questions], args.tokens)
    command = f"make bench-grammar ARGS='{' '.join(sys.argv[1:])}'"
    print(grid(("", ""), list(machine.describe(command).items())))
    print("\n" + table(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
