"""`foredraft generate`: the continuation of a prompt."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foredraft import Client, ForedraftError, Result
from foredraft.cli.answer import Answer, tell_limits
from foredraft.cli.flags import FlagHelp, add_generation_flags, given_fields
from foredraft.cli.json_values import json_of_result, json_of_stats
from foredraft.cli.report import Call, page, rounds_of, texts_of_ids
from foredraft.cli.screen import Screen


def add_to(commands: Any, connection: argparse.ArgumentParser) -> None:
    """Adds the command and its flags."""
    parser = commands.add_parser(
        "generate",
        parents=[connection],
        usage="%(prog)s [PROMPT] [FLAG ...]",
        formatter_class=FlagHelp,
        help="stream the continuation of a prompt",
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        help="the prompt; - reads it from standard input, as does no prompt at the end of a pipe. "
        "What is read is taken as it is, with the newline at its end",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--show",
        action="store_true",
        help="colour each token by its origin, and tell below the text how fast it came, the mean "
        "acceptance length and how much of the draft's time was hidden",
    )
    shown.add_argument(
        "--json", action="store_true", help="print each text at its end, as one line of JSON"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="print the text at the end, in one piece"
    )
    parser.add_argument(
        "--stats", action="store_true", help="print statistics as JSON on standard error"
    )
    parser.add_argument(
        "--report",
        type=_new_file,
        metavar="FILE.html",
        help="write a page that shows the rounds on a time line: what was drafted, accepted, "
        "wasted and waited for",
    )
    add_generation_flags(parser)
    called = dict.fromkeys(("inputs", "prompts"), "the prompt")
    parser.set_defaults(run=run, usage=parser, called=called)


def run(client: Client, args: argparse.Namespace) -> int:
    """Generates, and shows the text while it comes."""
    prompt, fields = _prompt(args), given_fields(args)
    screen, answer = Screen(args.show), Answer()
    streams = not (args.no_stream or args.json)
    asked = {**fields, "return_rounds": args.report is not None}
    with client.stream(prompt, args.generation_config, **asked) as stream:
        try:
            for index, pieces in answer.follow(stream):
                if streams and index == 0:
                    screen.write(pieces)
        except (ForedraftError, KeyboardInterrupt):
            screen.break_line()  # the message gets a line of its own
            raise
        result = stream.result
    results = result if isinstance(result, list) else [result]
    if args.json:
        for one in results:
            print(json_of_result(one))
    else:
        _show_texts(screen, answer, results, streams)
        tell_limits(screen, results)
    if args.show:
        screen.figures(answer.figures(results))
    if args.stats:
        for one in results:
            print(json_of_stats(one), file=sys.stderr)
    if args.report:
        call = Call(prompt, fields, client.info(), results, answer.figures(results))
        args.report.write_text(_page(client, answer, call), encoding="utf-8")
    return 0


def _page(client: Client, answer: Answer, call: Call) -> str:
    rounds = [rounds_of(answer.chunks(result.sequence_index)) for result in call.results]
    texts = texts_of_ids(client, [one for of_sequence in rounds for one in of_sequence])
    return page(call, rounds, texts)


def _new_file(name: str) -> Path:
    path = Path(name)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f'there is no folder "{path.parent}"')
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'"{name}" is a folder; give the name of a file')
    return path


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt not in (None, "-"):
        return str(args.prompt)
    if sys.stdin is None or (args.prompt is None and sys.stdin.isatty()):
        args.usage.error("give a prompt, or pipe it into standard input")
    return sys.stdin.read()


def _show_texts(
    screen: Screen, answer: Answer, results: Sequence[Result], is_first_shown: bool
) -> None:
    """Shows what is not shown yet, and ends the line."""
    for number, result in enumerate(results):
        if number:
            screen.write([(f"\n--- {result.sequence_index}\n", "unknown")])
        if number or not is_first_shown:
            screen.write(answer.pieces(result.sequence_index))
    screen.end_line()
