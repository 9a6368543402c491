"""`foredraft gateway`: the OpenAI API over targets, by the gateway SMG.

SMG is a program that others keep, and the extra `openai` brings it. This command starts it with
flags that suit targets, says where it answers, and hands signals to it. Targets are asked nothing.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from foredraft import InternalError, InvalidRequestError, UnavailableError
from foredraft.cli.connection import address
from foredraft.cli.flags import FlagHelp, seconds
from foredraft.cli.screen import Screen
from foredraft.wire.addresses import is_loopback

_PROGRAM = "smg"
_PATIENCE_S = 600.0
_LOOK_S, _ANSWER_S = 0.2, 5.0  # between two looks, and the longest wait for an answer
_END_S = 5.0  # that a gateway nobody was told of has to end
_STANDARD_ERROR = 2
_ANYWHERE = ("0.0.0.0", "::")
_KEYS = ("--api-key", "--tenant-api-key")
_SCHEMES = ("dns:", "unix", "vsock:", "ipv4:", "ipv6:", "xds:")


def add_to(commands: Any) -> None:
    """Adds the command and its flags."""
    parser = commands.add_parser(
        "gateway",
        formatter_class=FlagHelp,
        help="serve the OpenAI API over targets",
        description="Starts the gateway SMG, which serves the OpenAI API over HTTP, with targets "
        "for its workers. It runs until a signal ends it: the first one lets calls finish, the "
        "second one does not.",
    )
    parser.add_argument(
        "targets",
        nargs="*",
        type=_target,
        default=[os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052")],
        metavar="HOST:PORT",
        help="target services (default: $FOREDRAFT_ADDRESS or 127.0.0.1:50052)",
    )
    _add_listening(parser)
    parser.add_argument(
        "--wait",
        type=seconds,
        default=_PATIENCE_S,
        metavar="SECONDS",
        help="give up if no target is ready after so many seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--smg", metavar="FILE", help="the program (default: smg beside this one, or in $PATH)"
    )
    parser.add_argument(
        "--smg-flags",
        type=shlex.split,
        default=[],
        metavar="FLAGS",
        help="flags of SMG's own, such as '--policy round_robin --log-level info'",
    )
    parser.set_defaults(run_alone=_run, usage=parser, called={})


def _add_listening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        type=_target,
        default="127.0.0.1:8000",
        metavar="HOST:PORT",
        help="where the API is served (default: %(default)s)",
    )
    parser.add_argument(
        "--metrics-listen",
        type=_target,
        default="127.0.0.1:29000",
        metavar="HOST:PORT",
        help="where the gateway's own metrics are (default: %(default)s)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="serve everybody on the network in plain text, if --listen is not this machine's own",
    )


def _run(args: argparse.Namespace) -> int:
    asks_a_key = any(flag.startswith(_KEYS) for flag in args.smg_flags)
    if not (args.insecure or is_loopback(args.listen) or asks_a_key):
        raise InvalidRequestError(
            f"--listen: everybody who reaches {args.listen} could call the targets: give a key "
            "that callers have to show, as in --smg-flags '--api-key KEY', or --insecure for a "
            "network that lets nobody else in"
        )
    url = _url(args.listen)
    with _started(_command(args)) as gateway:
        with Screen().waiting(f"waiting for {', '.join(args.targets)}"):
            model = _served_model(gateway, url, args)
        if model is not None:
            asked = json.dumps({"model": model, "prompt": "def main(", "max_tokens": 16})
            print(f"The OpenAI API is at {url}/v1, over {', '.join(args.targets)}. Try:\n")
            print(f"curl {url}/v1/completions -H 'content-type: application/json' \\")
            print(f"    -d {shlex.quote(asked)}", flush=True)
        return gateway.end()


class _Gateway:
    """The running program, and the signals that this one got."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.signals: list[int] = []

    def take(self, signum: int, _: Any) -> None:
        """Hands a signal on; the second one ends everything at once."""
        self.signals.append(signum)
        if len(self.signals) > 1:
            self.process.kill()
        else:
            self.process.send_signal(signum)

    def end(self) -> int:
        """Waits for the end; returns the exit code.

        Raises:
            InternalError: nobody wanted it to end.
        """
        code = self.process.wait()
        if not self.signals:
            raise InternalError(f"the gateway ended with code {code}; its lines above say why")
        return 130 if self.signals[0] == signal.SIGINT else 0


@contextmanager
def _started(command: Sequence[str]) -> Iterator[_Gateway]:
    """Runs the program, whose lines go to standard error, for the time of the context.

    It has a process group of its own, so that Ctrl-C reaches it once.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=_STANDARD_ERROR, process_group=0
        )
    except OSError as error:
        raise InvalidRequestError(f"--smg: {command[0]}: {error.strerror}") from error
    gateway = _Gateway(process)
    before = {name: signal.signal(name, gateway.take) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield gateway
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name, handler in before.items():
            signal.signal(name, handler)


def _served_model(gateway: _Gateway, url: str, args: argparse.Namespace) -> str | None:
    """Returns the model that is served, once it can be called; None if the program ended before.

    Raises:
        UnavailableError: no target was ready in time.
    """
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + args.wait
    while time.monotonic() < deadline:
        if gateway.process.poll() is not None:
            return None
        with suppress(OSError):  # it does not listen yet, or says that it is not ready
            opener.open(f"{url}/readiness", timeout=_ANSWER_S).close()
            with opener.open(f"{url}/v1/models", timeout=_ANSWER_S) as answer:
                return str(json.load(answer)["data"][0]["id"])
        time.sleep(_LOOK_S)
    raise UnavailableError(f"no target was ready in {args.wait:g} s: {', '.join(args.targets)}")


def _command(args: argparse.Namespace) -> list[str]:
    host, port = _parts(args.listen)
    metrics_host, metrics_port = _parts(args.metrics_listen)
    flags = {
        "--host": host,
        "--port": port,
        "--prometheus-host": metrics_host,
        "--prometheus-port": metrics_port,
        "--worker-startup-check-interval": "1",  # its own 30 s is long for those who wait
        "--health-check-interval-secs": "5",
        "--log-level": "warn",
    }
    workers = [f"grpc://{target}" for target in args.targets]
    given = [text for flag in flags.items() for text in flag]
    return [_program(args.smg), "launch", *given, *args.smg_flags, "--worker-urls", *workers]


def _program(named: str | None) -> str:
    """Returns the path of the program.

    Raises:
        InvalidRequestError: it is not installed.
    """
    if named:
        return named
    beside = Path(sys.executable).parent / _PROGRAM
    if found := shutil.which(beside) or shutil.which(_PROGRAM):
        return found
    raise InvalidRequestError(
        'the gateway SMG is not installed: `pip install "foredraft[openai]"` brings it, and --smg '
        "names one that is elsewhere"
    )


def _target(text: str) -> str:
    """Reads HOST:PORT, which is all that the gateway knows of gRPC's addresses."""
    address(text)
    if text.startswith(_SCHEMES):
        raise argparse.ArgumentTypeError(f'"{text}" is not HOST:PORT')
    return text


def _parts(text: str) -> tuple[str, str]:
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def _url(listen: str) -> str:
    """Returns where this machine reaches what listens there."""
    host, port = _parts(listen)
    if host in _ANYWHERE:
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
