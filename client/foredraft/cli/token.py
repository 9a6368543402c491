"""`foredraft token new`: makes an API token, and what a service has to know of it.

It asks no service: what it prints goes into the file of `--api-tokens`.
"""

import argparse
from pathlib import Path
from typing import Any

from foredraft import InvalidRequestError
from foredraft.cli.flags import whole
from foredraft.wire.api_tokens import TOKEN_LIMITS, TOKEN_NAME, new_token, token_table


def add_to(commands: Any) -> None:
    """Adds the command and its flags."""
    parser = commands.add_parser("token", help="make API tokens for the callers of a service")
    made = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=type(parser))
    new = made.add_parser(
        "new",
        help="make one",
        description="Prints a token, which is kept nowhere, and its lines for the file of "
        "--api-tokens.",
    )
    new.add_argument("--name", type=_name, required=True, help="whose it is")
    new.add_argument(
        "--append", metavar="FILE", help="put the lines at the end of this file; print the token"
    )
    for limit, meaning in TOKEN_LIMITS.items():
        flag = "--" + limit.replace("_", "-")
        new.add_argument(flag, type=_at_least_one, metavar="INT", help=f"the most {meaning}")
    new.set_defaults(run_alone=_new, usage=new, called={})


def _new(args: argparse.Namespace) -> int:
    limits = {limit: most for limit in TOKEN_LIMITS if (most := getattr(args, limit)) is not None}
    secret = new_token()
    lines = token_table(args.name, secret, limits)
    if args.append:
        _append(Path(args.append), args.name, lines)
        print(secret)
    else:
        print(f"{secret}\n\n{lines}", end="")
    return 0


def _append(path: Path, name: str, lines: str) -> None:
    before = path.read_text() if path.exists() else ""
    if f"[{name}]" in before.splitlines():
        raise InvalidRequestError(f"--name: {path} has a token {name} already")
    with path.open("a") as file:
        file.write(f"{'' if not before or before.endswith(chr(10)) else chr(10)}{lines}")


def _name(text: str) -> str:
    if not TOKEN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("takes letters, digits, - and _, 64 at most")
    return text


def _at_least_one(text: str) -> int:
    if (number := whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"takes 1 or more, and not {text}")
    return number
