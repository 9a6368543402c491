"""`foredraft info`: what generates behind an address, and whether it is ready."""

import argparse
from typing import Any

from foredraft import Client, ModelInfo
from foredraft.cli.flags import seconds
from foredraft.cli.json_values import json_of
from foredraft.cli.screen import Screen
from foredraft.wire import GENERATION_FIELDS

_PATIENCE_S = 600.0


def add_to(commands: Any, connection: argparse.ArgumentParser) -> None:
    """Adds the command and its flags."""
    parser = commands.add_parser(
        "info", parents=[connection], help="say what generates behind the address"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument(
        "--wait",
        type=seconds,
        nargs="?",
        const=_PATIENCE_S,
        metavar="SECONDS",
        help=f"wait until the target is ready, so many seconds at most ({_PATIENCE_S:g} if no "
        "number is given)",
    )
    parser.set_defaults(run=run, usage=parser, called={})


def run(client: Client, args: argparse.Namespace) -> int:
    """Shows the model and the service."""
    if args.wait is None:
        info = client.info()
    else:
        with Screen().waiting(f"waiting for {args.address}"):
            info = client.wait_until_ready(args.wait)
    print(json_of(info, indent=2) if args.json else _table(info))
    return 0


def _table(info: ModelInfo) -> str:
    config = info.generation_config
    given = {name: getattr(config, name) for name in GENERATION_FIELDS}
    settings = [f"{name} = {json_of(v)}" for name, v in given.items() if v is not None]
    rows = {
        "model": [info.model],
        "runs on": [f"{info.device}, {info.dtype}"],
        "rows": [f"{info.rows} ({info.row_layout})"],
        "length": [f"up to {info.max_length} tokens, prompt included"],
        "vocabulary": [f"{info.vocabulary_size} tokens"],
        "drafts": [f"{address}: {state}" for address, state in info.drafts.items()] or ["none"],
        "generation": settings or ["nothing set by the model"],
    }
    lines = [
        f"{name if first else '':12}{value}"
        for name, values in rows.items()
        for first, value in zip([True] + [False] * len(values), values, strict=False)
    ]
    return "\n".join(lines)
