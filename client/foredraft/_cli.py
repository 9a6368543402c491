"""The command line: `foredraft generate`, `foredraft info` and `foredraft configs`.

This module knows nothing that the client does not.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from foredraft._client import Client
from foredraft._errors import ForedraftError, InvalidRequestError
from foredraft._types import Stats
from foredraft.wire import GENERATION_FIELDS, Field, Kind
from foredraft.wire.config import refuse_unsupported

_SCALARS: dict[Kind, type] = {
    Kind.UINT: int,
    Kind.TOKEN_ID: int,
    Kind.FLOAT: float,
    Kind.STRING: str,
}


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
            print(f"foredraft: cannot write: {error.strerror}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    try:
        with Client(args.address, timeout=args.timeout) as client:
            return int(args.run(client, args))
    except ForedraftError as error:
        print(f"foredraft: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except UnicodeError as error:
        print(f"foredraft: the prompt cannot be read as text: {error}", file=sys.stderr)
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


def _generate(client: Client, args: argparse.Namespace) -> int:
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    fields = {
        name: value for name in GENERATION_FIELDS if (value := getattr(args, name)) is not None
    }
    fields |= {
        name: value
        for name in ("seed", "sampling_rule")
        if (value := getattr(args, name)) is not None
    }
    with client.stream(prompt, args.generation_config, **fields) as stream:
        try:
            for chunk in stream:
                if not args.no_stream and chunk.sequence_index == 0:
                    print(chunk.text, end="", flush=True)
        except ForedraftError as error:
            if error.partial and not args.no_stream:
                print(flush=True)  # the message gets a line of its own
            raise
        result = stream.result
    results = result if isinstance(result, list) else [result]
    for r in results if args.no_stream else results[1:]:
        print(r.text if args.no_stream else f"\n--- {r.sequence_index}\n{r.text}", end="")
    print()
    if args.stats:
        for r in results:
            print(_stats(r.stats), file=sys.stderr)
    return 0


def _info(client: Client, args: argparse.Namespace) -> int:
    print(json.dumps(asdict(client.info()), indent=2))
    return 0


def _configs(client: Client, args: argparse.Namespace) -> int:
    if args.save is not None and args.name is None:
        args.usage.error("--save takes a name")
    if args.save is not None:
        client.save_generation_config(args.name, **args.save)
    elif args.name is not None:
        config = asdict(client.generation_config(args.name))
        print(
            json.dumps(
                {name: value for name, value in config.items() if value is not None}, indent=2
            )
        )
    else:
        print("".join(f"{name}\n" for name in client.generation_configs()), end="")
    return 0


def _stats(stats: Stats) -> str:
    shown: dict[str, Any] = asdict(stats)
    shown["acceptance_rate"] = round(stats.acceptance_rate, 3)
    shown["mean_acceptance_length"] = round(stats.mean_acceptance_length, 3)
    return json.dumps(shown)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    default = os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052")
    common.add_argument(
        "--address",
        default=default,
        help="target service (default: $FOREDRAFT_ADDRESS or %(default)s)",
    )
    common.add_argument(
        "--timeout", type=float, default=600.0, help="seconds (default: %(default)s)"
    )
    parser = argparse.ArgumentParser(
        prog="foredraft", description="Generate with a foredraft target service."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser(
        "generate", parents=[common], help="stream the continuation of a prompt"
    )
    generate.add_argument("prompt", help="the prompt; - reads it from standard input")
    generate.add_argument(
        "--generation-config", metavar="NAME", help="one of the model's named configs"
    )
    generate.add_argument("--seed", type=int)
    generate.add_argument("--sampling-rule", choices=["rejection", "coupled"])
    generate.add_argument(
        "--no-stream", action="store_true", help="print the text at the end, in one piece"
    )
    generate.add_argument(
        "--stats", action="store_true", help="print statistics as JSON on standard error"
    )
    fields = generate.add_argument_group(
        "generation parameters, as in Hugging Face's GenerationConfig"
    )
    for field in GENERATION_FIELDS.values():
        _add_field(fields, field)
    generate.set_defaults(run=_generate)
    _add_other_commands(commands, common)
    return parser


def _add_other_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    info = commands.add_parser(
        "info", parents=[common], help="say what generates behind the address"
    )
    info.set_defaults(run=_info)
    configs = commands.add_parser(
        "configs", parents=[common], help="list the model's named generation configs"
    )
    configs.add_argument("name", nargs="?", help="print this one as JSON")
    configs.add_argument(
        "--save", type=_fields, metavar="JSON", help="keep these parameters under the name"
    )
    configs.set_defaults(run=_configs, usage=configs)


def _fields(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError("takes a JSON object")
    for name in values.keys() - GENERATION_FIELDS.keys():
        try:
            refuse_unsupported(name, values[name])
        except InvalidRequestError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return values


def _add_field(group: Any, field: Field) -> None:
    flag, shown = "--" + field.name.replace("_", "-"), {"help": field.doc}
    if field.kind in (Kind.BOOL, Kind.EARLY_STOPPING):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, **shown)
    elif field.kind is Kind.STRINGS:
        repeated = f"{field.doc}; may be given several times"
        group.add_argument(flag, action="append", metavar="TEXT", help=repeated)
    elif kind := _SCALARS.get(field.kind):
        group.add_argument(flag, type=kind, metavar=kind.__name__.upper(), **shown)
    else:
        group.add_argument(flag, type=json.loads, metavar="JSON", **shown)


if __name__ == "__main__":
    sys.exit(main())
