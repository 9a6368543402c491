"""`foredraft configs`: the model's named generation configs."""

import argparse
import json
from typing import Any

from foredraft import Client, InvalidRequestError
from foredraft.cli.json_values import json_of
from foredraft.wire import GENERATION_FIELDS
from foredraft.wire.config import refuse_unsupported


def add_to(commands: Any, connection: argparse.ArgumentParser) -> None:
    """Adds the command and its flags."""
    parser = commands.add_parser(
        "configs", parents=[connection], help="list the model's named generation configs"
    )
    parser.add_argument("name", nargs="?", help="print this one as JSON")
    parser.add_argument(
        "--save", type=_fields, metavar="JSON", help="keep these parameters under the name"
    )
    called = {"generation_config": "name", "config": "--save"}
    parser.set_defaults(run=run, usage=parser, called=called)


def run(client: Client, args: argparse.Namespace) -> int:
    """Lists, reads or saves."""
    if args.save is not None and args.name is None:
        args.usage.error("--save takes a name")
    if args.save is not None:
        client.save_generation_config(args.name, **args.save)
    elif args.name is not None:
        print(json_of(client.generation_config(args.name), indent=2))
    else:
        print("".join(f"{name}\n" for name in client.generation_configs()), end="")
    return 0


def _fields(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError('takes a JSON object, such as {"temperature": 0.5}')
    for name in values.keys() - GENERATION_FIELDS.keys():
        try:
            refuse_unsupported(name, values[name])
        except InvalidRequestError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return values
