"""The flags that several commands share: how the target generates.

Each generation field is a flag, from the table of `foredraft.wire`.
"""

import argparse
import json
import math
import re
import textwrap
from pathlib import Path
from typing import Any

from foredraft import ForedraftError, InvalidRequestError
from foredraft.wire import GENERATION_FIELDS, Field, Kind


class FlagHelp(argparse.HelpFormatter):
    """Help whose lines end between words, and never within the name of a flag."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


TLS_FILES = {
    "ca": "CAs that the target's certificate may come from",
    "cert": "certificate to show to the target",
    "key": "private key of --cert",
}
"""The files of TLS, each of which is a flag, and what it is."""
_OF_THE_CALL = ("seed", "sampling_rule")
_OTHER_NAMES = {"return_rounds": "--report", "generation_config": "--generation-config"}
_EARLY_STOPPING: dict[str, str | bool] = {"never": "never", "true": True, "false": False}
_EXAMPLES = {
    Kind.TOKEN_IDS: "[2, 3]",
    Kind.SEQUENCES: "[[1, 2], [3]]",
    Kind.BIASES: "[[[1, 2], -3.5]]",
    Kind.TOKEN_BIASES: '{"7": -3.5}',
    Kind.DECAY: "[10, 1.05]",
    Kind.WATERMARK: '{"bias": 2.5}',
    Kind.CACHE: '{"nbits": 4}',
}


def add_generation_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each generation field, and those of the call."""
    parser.add_argument(
        "--generation-config",
        metavar="NAME",
        help="one of the model's named configs, which flags go over",
    )
    parser.add_argument(
        "--seed", type=whole, metavar="INT", help="make sampling repeatable (default: drawn)"
    )
    parser.add_argument(
        "--sampling-rule",
        choices=["rejection", "coupled"],
        help="how proposals are accepted when sampling (default: coupled with a seed, else the "
        "faster one)",
    )
    group = parser.add_argument_group(
        "generation parameters", "Names and meanings are those of Hugging Face's generate."
    )
    for field in GENERATION_FIELDS.values():
        _add_field(group, field)


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the generation fields that were given, by name."""
    names = (*GENERATION_FIELDS, *_OF_THE_CALL)
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def is_generation_flag(name: str) -> bool:
    """Whether a parameter of a call is a flag."""
    return name in GENERATION_FIELDS or name in _OF_THE_CALL


def flag_of(name: str) -> str:
    """Returns the flag of a generation field."""
    return _OTHER_NAMES.get(name) or "--" + name.replace("_", "-")


def message_of(error: ForedraftError, args: argparse.Namespace) -> str:
    """Returns the message of an error in one line, in which what a command takes has its name
    there: fields are flags where the command has them, and `args.called` names what is none.
    """
    message = " ".join(str(error).split()).replace(" in .partial", " came")
    concerned = error.fields if isinstance(error, InvalidRequestError) else ()
    told, colon, rest = message.partition(": ")
    for name in args.called.keys() & set(concerned):
        told = re.sub(rf"(?<![\w-]){name}(?!\w)", args.called[name], told)
    message = told + colon + rest
    for name in (*GENERATION_FIELDS, *_OF_THE_CALL, *_OTHER_NAMES):
        is_flag = hasattr(args, flag_of(name).removeprefix("--").replace("-", "_"))
        if is_flag and ("_" in name or name in concerned):
            flag = flag_of(name)
            message = re.sub(rf"\b{name}=True\b", flag, message)
            message = re.sub(rf"\b{name}=False\b", flag.replace("--", "--no-", 1), message)
            message = re.sub(rf"(?<![\w-]){name}(?!\w)", flag, message)
    for name in set(concerned) & set(TLS_FILES):
        message = re.sub(rf"^{name}:", f"--{name}:", message)
    return message


def whole(text: str) -> int:
    """Reads a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number') from None


def number(text: str) -> float:
    """Reads a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is no number') from None


def seconds(text: str) -> float:
    """Reads a length of time."""
    if not 0 < (value := number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"takes more than 0 seconds, and not {text}")
    return value


def _early_stopping(text: str) -> str | bool:
    try:
        return _EARLY_STOPPING[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f'"{text}" is not never, true or false') from None


def _add_field(group: Any, field: Field) -> None:
    named = re.sub(r"`(\w+)`", _flag_or_word, field.doc).replace("%", "%%")
    flag, shown = flag_of(field.name), {"help": named}
    if field.kind is Kind.BOOL:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, **shown)
    elif field.kind is Kind.EARLY_STOPPING:
        group.add_argument(flag, type=_early_stopping, metavar="never|true|false", **shown)
    elif field.kind is Kind.STRINGS:
        repeated = f"{named}; may be given several times"
        group.add_argument(flag, action="append", metavar="TEXT", help=repeated)
    elif field.choices:
        group.add_argument(flag, choices=field.choices, **shown)
    elif field.kind is Kind.STRING:
        group.add_argument(flag, metavar="TEXT", **shown)
    elif field.kind is Kind.FLOAT:
        group.add_argument(flag, type=number, metavar="NUMBER", **shown)
    elif field.kind is Kind.RESPONSE_FORMAT:
        told = f'{named}; a file such as {{"type": "json_schema", "json_schema": {{...}}}}'
        group.add_argument(flag, type=_json_file, metavar="FILE", help=told)
    elif field.kind in _EXAMPLES:
        _add_json(group, flag, named, _EXAMPLES[field.kind])
    else:
        group.add_argument(flag, type=whole, metavar="INT", **shown)


def _add_json(group: Any, flag: str, meaning: str, example: str) -> None:
    def read(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'"{text}" is no JSON such as {example}') from None

    group.add_argument(flag, type=read, metavar="JSON", help=f"{meaning}; such as {example}")


def _json_file(name: str) -> Any:
    """Reads a file of JSON."""
    try:
        return json.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise argparse.ArgumentTypeError(f'"{name}" cannot be read: {reason}') from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{name}" is no JSON: {error}') from None


def _flag_or_word(quoted: re.Match[str]) -> str:
    return flag_of(quoted[1]) if quoted[1] in GENERATION_FIELDS else quoted[1]
