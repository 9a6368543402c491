"""The program `foredraft`: its commands, its exit codes, and how its errors read.

This module knows nothing of what a command does.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from foredraft import Client, ForedraftError, __version__
from foredraft.cli import chat, configs, gateway, generate, info, token
from foredraft.cli.connection import connection_flags, connection_of
from foredraft.cli.flags import message_of
from foredraft.cli.unknown_words import told_of


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that a terminal has not is no error
            stream.reconfigure(errors="replace")
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout:  # it is None if it was closed from the beginning
                sys.stdout.flush()
    except OSError as error:
        _let_go(sys.stdout, sys.stderr)
        if not isinstance(error, BrokenPipeError):  # the reader who has left needs no message
            where = f" {error.filename}" if error.filename else ""
            print(f"foredraft: cannot write{where}: {error.strerror}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    args, unknown = _parser().parse_known_args(argv)
    if unknown:
        args.usage.error(told_of(unknown, args.usage))
    try:
        if args.run_alone:
            return int(args.run_alone(args))
        with Client(args.address, timeout=args.timeout, **connection_of(args)) as client:
            return int(args.run(client, args))
    except ForedraftError as error:
        print(f"foredraft: {message_of(error, args)}", file=sys.stderr)
        return 1
    except UnicodeError:
        print("foredraft: the prompt is not text in this terminal's encoding", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _let_go(*streams: Any) -> None:
    """Lets streams that cannot be written to end in nothing: the interpreter flushes them."""
    for stream in filter(None, streams):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _CommandParser(argparse.ArgumentParser):
    """A parser without abbreviations, which would mean something else once there are more flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foredraft", description="Generate with a foredraft target service."
    )
    parser.add_argument(
        "--version", action="version", version=f"foredraft {__version__}", help="say the version"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    parser.set_defaults(run_alone=None, converses=False)
    for command in (generate, chat, info, configs):
        command.add_to(commands, connection_flags())
    gateway.add_to(commands)
    token.add_to(commands)
    return parser
