"""`foredraft chat`: a conversation in the terminal."""

import argparse
import sys
from typing import Any

from foredraft import Client, ForedraftError
from foredraft.cli.answer import Answer, tell_limits
from foredraft.cli.flags import FlagHelp, add_generation_flags, given_fields, message_of
from foredraft.cli.screen import Screen

_MAX_NEW_TOKENS = 512
_LENGTHS = ("max_new_tokens", "max_length")


def add_to(commands: Any, connection: argparse.ArgumentParser) -> None:
    """Adds the command and its flags."""
    parser = commands.add_parser(
        "chat",
        parents=[connection],
        usage="%(prog)s [FLAG ...]",
        formatter_class=FlagHelp,
        help="hold a conversation",
        description="A conversation: each line is a message. Ctrl-C ends an answer, Ctrl-D the "
        f"conversation. Answers end with their text, or at {_MAX_NEW_TOKENS} tokens.",
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument(
        "--show",
        action="store_true",
        help="colour each token by its origin, and tell figures below each answer",
    )
    parser.add_argument(
        "--sanitize-control-tokens",
        action="store_true",
        help="take control tokens that a message spells out for plain text",
    )
    add_generation_flags(parser)
    called = dict.fromkeys(("inputs", "prompts", "chat"), "the conversation")
    parser.set_defaults(run=run, usage=parser, called=called, converses=True)


def run(client: Client, args: argparse.Namespace) -> int:
    """Answers until the end of standard input."""
    if (args.num_return_sequences or 1) > 1:
        args.usage.error("--num-return-sequences: a conversation has one answer at a time")
    conversation = Conversation(client, args)
    is_typed = bool(sys.stdin) and sys.stdin.isatty()
    while (message := _next_message(is_typed)) is not None:
        if not message.strip():
            continue
        try:
            conversation.say(message)
        except ForedraftError as error:
            if not is_typed:
                raise
            conversation.screen.notice(message_of(error, args))
    return 0


class Conversation:
    """What was said so far, and how it is answered."""

    def __init__(self, client: Client, args: argparse.Namespace) -> None:
        self.screen = Screen(args.show)
        self._client, self._show, self._config = client, args.show, args.generation_config
        self._fields = given_fields(args)
        if args.sanitize_control_tokens:
            self._fields["sanitize_control_tokens"] = True
        if self._config is None and not self._fields.keys() & set(_LENGTHS):
            self._fields["max_new_tokens"] = _MAX_NEW_TOKENS
        self._messages: list[dict[str, str]] = []
        if args.system:
            self._messages.append({"role": "system", "content": args.system})

    def say(self, message: str) -> None:
        """Streams the answer to a message. Both are kept, unless there is no answer.

        Raises:
            ForedraftError: the answer could not be had to its end.
        """
        messages = [*self._messages, {"role": "user", "content": message}]
        answer = Answer()
        with self._client.stream(messages, self._config, **self._fields) as stream:
            try:
                for index, pieces in answer.follow(stream):
                    if index == 0:
                        self.screen.write(pieces)
            except KeyboardInterrupt:
                self.screen.break_line()
                self.screen.notice("stopped")
            except ForedraftError:
                self.screen.break_line()
                raise
            else:
                self.screen.end_line()
                result = stream.result
                results = result if isinstance(result, list) else [result]
                tell_limits(self.screen, results)
                if self._show:
                    self.screen.figures(answer.figures(results))
        if answer.text:
            self._messages = [*messages, {"role": "assistant", "content": answer.text}]


def _next_message(is_typed: bool) -> str | None:
    """Returns the next line of standard input; None at its end."""
    if not is_typed:
        line = sys.stdin.readline() if sys.stdin else ""
        return line.rstrip("\n") if line else None
    try:
        return input("> ")
    except EOFError:
        print()
        return None
    except KeyboardInterrupt:
        print()
        print("foredraft: Ctrl-D leaves", file=sys.stderr)
        return ""
