"""The flags of the connection: where the target is, how it is called, and what it is shown."""

import argparse
import os
import secrets
from pathlib import Path
from typing import Any

import grpc

from foredraft import InvalidRequestError, tls
from foredraft.cli.flags import TLS_FILES, seconds
from foredraft.wire.addresses import address_fault, is_loopback
from foredraft.wire.limits import DEFAULT_TIMEOUT_S


def connection_flags() -> argparse.ArgumentParser:
    """Returns a parent parser with the flags that every command has."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--address",
        type=address,
        default=os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052"),
        metavar="HOST:PORT",
        help="target service (default: $FOREDRAFT_ADDRESS or %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=float(DEFAULT_TIMEOUT_S),
        metavar="SECONDS",
        help="end a call after so many seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="call the target by TLS (default: $FOREDRAFT_TLS; each of the next three means it, "
        "too)",
    )
    for name, meaning in TLS_FILES.items():
        variable = f"FOREDRAFT_{name.upper()}"
        parser.add_argument(
            f"--{name}",
            default=os.environ.get(variable),
            metavar="FILE",
            help=f"{meaning}, PEM (default: ${variable})",
        )
    parser.add_argument(
        "--token-file",
        default=os.environ.get("FOREDRAFT_TOKEN_FILE"),
        metavar="FILE",
        help="file with the API token to show (default: $FOREDRAFT_TOKEN_FILE, or the token itself "
        "in $FOREDRAFT_TOKEN)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="send the token in plain text to other machines, too",
    )
    return parser


def _credentials(args: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Returns the credentials for TLS that the flags ask for; None is plain text."""
    wanted = os.environ.get("FOREDRAFT_TLS", "").lower()
    if wanted not in ("", "0", "1", "false", "true"):
        raise InvalidRequestError(f"FOREDRAFT_TLS: {wanted!r} is not true or false")
    files = {name: getattr(args, name) or None for name in TLS_FILES}
    is_tls = args.tls or wanted in ("1", "true") or any(files.values())
    return tls(**files) if is_tls else None


def connection_of(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of a client for TLS and for the token that it shows.

    Raises:
        InvalidRequestError: a file cannot be used, or others could read the token on its way.
    """
    credentials, token = _credentials(args), _token(args)
    if token is None:
        # A secret of its own lets a conversation reuse what it has sent, and nobody else.
        shown = {"authorization": f"Conversation {secrets.token_hex(16)}"} if args.converses else {}
        return {"credentials": credentials, "metadata": shown}
    if args.insecure:
        return {"credentials": credentials, "metadata": {"authorization": f"Bearer {token}"}}
    if credentials is None and not is_loopback(args.address):
        raise InvalidRequestError(
            f"the token would go to {args.address} in plain text, where others can read it: give "
            "--tls or --ca, or --insecure if nobody else is on that network"
        )
    return {"credentials": credentials, "token": token}


def _token(args: argparse.Namespace) -> str | None:
    """Returns the token. It is no flag itself: other users of the machine can read those."""
    token = os.environ.get("FOREDRAFT_TOKEN") or None
    if args.token_file:
        try:
            token = Path(args.token_file).read_text().strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise InvalidRequestError(f"--token-file: {args.token_file}: {reason}") from error
    return token


def address(text: str) -> str:
    """Reads the address of a service."""
    if fault := address_fault(text):
        reason = f'"{text}" {fault}; it is HOST:PORT, as in 10.0.0.6:50052'
        raise argparse.ArgumentTypeError(reason)
    return text
