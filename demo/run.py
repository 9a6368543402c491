"""Runs the demonstration: both services on loopback, answers streamed in the colours of where their
tokens came from, and a table of how fast transformers and foredraft gave them.

    make demo
    make demo PROMPT='What is a lighthouse for?'
"""

import argparse
import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from demo import baseline, services
from demo.baseline import Baseline
from demo.pair import ROOT, Pair, Question, bundled_pair, real_pair
from demo.real_model import RealModelError
from demo.table import Row, table
from foredraft import Client, Result
from foredraft.cli.pieces import pieces_of
from foredraft.cli.screen import Screen

LOGS = ROOT / "build" / "demo"
_LOOKUP = 10  # tokens, as transformers' documentation has it
_PLAIN = {"num_assistant_tokens": 0}


def main() -> int:
    """Runs the demonstration; the exit code says whether assistance left all texts as they are."""
    parser = argparse.ArgumentParser(description="Answer with and without assistance.")
    parser.add_argument("--prompt", help="a question of your own")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--bundled", action="store_true", help="the small pair; nothing is fetched")
    parser.add_argument("--draft", action="store_true", help="also start a draft service")
    args = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that a terminal has not is no error
        sys.stdout.reconfigure(errors="replace")
    pair = pair_of(args.bundled, args.draft)
    if args.prompt:
        pair = pair.asked(args.prompt)
    LOGS.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _told(f"starting foredraft on {pair.name}; logs are in {LOGS}/"):
            client = stack.enter_context(services.running(pair, LOGS))
            client.generate("Hello", max_new_tokens=2)  # what is slow once is not measured
        rows = [_conversation(client, pair, args.max_new_tokens)]
        with _told("the same without assistance"):
            rows.append(_silent(client, pair, args.max_new_tokens))
        prompts = [client.tokenize(question.prompt) for question in pair.questions]
    with ExitStack() as stack:  # the services have ended: transformers has the machine to itself
        with _told("loading transformers"):
            rival = stack.enter_context(baseline.started(pair.target, LOGS / "transformers.log"))
            rival.answer(prompts[0][:8], 1)
        for name, lookup in (("transformers, prompt lookup", _LOOKUP), ("transformers", None)):
            with _told(name):
                rows.append(_rival(rival, name, prompts, args.max_new_tokens, lookup))
    print(table([question.name for question in pair.questions], rows[0], rows[1], rows[2:]))
    print(f"\nThe logs are in {LOGS}/. Ask your own: make demo PROMPT='...'")
    return 0 if rows[0].token_ids == rows[1].token_ids else 1


def pair_of(bundled: bool, drafted: bool = False) -> Pair:
    """Returns the pair that speaks, or the bundled one if that is wanted or cannot be fetched."""
    if not bundled:
        try:
            with _told("fetching SmolLM2-135M-Instruct, once, if it is not there (93 MB)"):
                return real_pair(drafted)
        except RealModelError as error:
            print(f"{error}\nThe bundled pair takes its place: it is quick, and no conversation.")
    return bundled_pair()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Says what goes on, and afterwards how long it took."""
    print(f"- {what}", flush=True)
    began = time.perf_counter()
    yield
    print(f"  {time.perf_counter() - began:.0f} s", flush=True)


def _conversation(client: Client, pair: Pair, max_new_tokens: int) -> Row:
    """Shows the answers while they are generated."""
    screen = Screen(colour=True)
    legend = ["green: the draft model", "cyan: n-gram lookup", "magenta: an alternative"]
    print("\nWhere the tokens come from: " + ", ".join(legend) + ", plain: the target itself")
    answers = []
    for question in pair.questions:
        print(f"\n> {question.shown}\n")
        answers.append(_answer(client, question, screen, max_new_tokens=max_new_tokens))
        screen.end_line()
    print()
    return _row("foredraft", answers)


def _silent(client: Client, pair: Pair, max_new_tokens: int) -> Row:
    options = {"max_new_tokens": max_new_tokens, **_PLAIN}
    answers = [_answer(client, question, None, **options) for question in pair.questions]
    return _row("foredraft, no assistance", answers)


def _answer(
    client: Client, question: Question, screen: Screen | None, **options: Any
) -> tuple[Result, float]:
    """Returns an answer and the seconds that it took; shows it on a screen while it comes."""
    began = time.perf_counter()
    with client.stream(question.prompt, **options) as stream:
        for chunk in stream:
            if screen:
                screen.write(pieces_of(chunk))
    spent_s = time.perf_counter() - began
    assert isinstance(stream.result, Result), "a prompt has one answer"
    return stream.result, spent_s


def _rival(
    rival: Baseline,
    name: str,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    lookup: int | None,
) -> Row:
    answers = [rival.answer(prompt, max_new_tokens, lookup) for prompt in prompts]
    return Row(name, tuple(a.token_ids for a in answers), tuple(a.spent_s for a in answers))


def _row(name: str, answers: Sequence[tuple[Result, float]]) -> Row:
    return Row(
        name,
        tuple(result.token_ids for result, _ in answers),
        tuple(spent_s for _, spent_s in answers),
        tuple(result.stats.proposed / max(1, result.stats.rounds) for result, _ in answers),
        tuple(result.stats.mean_acceptance_length for result, _ in answers),
    )


if __name__ == "__main__":
    sys.exit(main())
