"""Runs the demonstration: both services on loopback, a streamed completion, the same without
assistance.

    make demo
    make demo PROMPT='def fibonacci('
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from foredraft import Chunk, Client, Result, UnavailableError

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "demo" / "models"
PROMPT = '''"""Utilities for reading configuration files."""

import os
import re


class Parser:
    """Parse a configuration file.

    The file is read line by line.
    """

    def __init__(self, filename):
'''
GREEN, BOLD, PLAIN = ("\033[32m", "\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> int:
    """Runs the demonstration; the exit code says whether the two texts are equal."""
    parser = argparse.ArgumentParser(description="Complete a prompt with and without assistance.")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    args = parser.parse_args()
    with ExitStack() as stack:
        ports = [_free_port() for _ in range(4)]
        draft, target = f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
        stack.enter_context(_service("draft", draft, ports[2]))
        stack.enter_context(_service("target", target, ports[3], "--draft", draft))
        client = stack.enter_context(Client(target))
        _wait(client)
        client.generate(args.prompt, max_new_tokens=8)  # the first call warms both services up
        print(f"{BOLD}{args.prompt}{PLAIN}", end="")
        assisted, assisted_s = _stream(client, args, show=True)
        legend = (
            f"{GREEN}green{PLAIN}: proposed by the draft and accepted; the rest: made by the target"
        )
        print(f"\n\n{legend}\n" if GREEN else "\n")
        plain, plain_s = _stream(client, args, show=False, num_assistant_tokens=0)
        _table(assisted, assisted_s, plain, plain_s)
    return 0 if assisted.token_ids == plain.token_ids else 1


def _stream(
    client: Client, args: argparse.Namespace, show: bool, **fields: Any
) -> tuple[Result, float]:
    began = time.perf_counter()
    with client.stream(args.prompt, max_new_tokens=args.max_new_tokens, **fields) as stream:
        for chunk in stream:
            if show:
                accepted, made = _split(chunk)
                print(f"{GREEN}{accepted}{PLAIN}{made}" if accepted else made, end="", flush=True)
    return stream.result, time.perf_counter() - began


def _split(chunk: Chunk) -> tuple[str, str]:
    """Returns the text of the accepted tokens, and of those that the target made."""
    cut = (
        chunk.text_offsets[chunk.num_accepted]
        if chunk.num_accepted < len(chunk.token_ids)
        else len(chunk.text)
    )
    return chunk.text[:cut], chunk.text[cut:]


def _table(assisted: Result, assisted_s: float, plain: Result, plain_s: float) -> None:
    rates = [len(r.token_ids) / s for r, s in ((assisted, assisted_s), (plain, plain_s))]
    rows = [
        ("", "assisted", "plain"),
        ("tokens", str(len(assisted.token_ids)), str(len(plain.token_ids))),
        ("rounds", str(assisted.stats.rounds), str(plain.stats.rounds)),
        ("mean acceptance length", f"{assisted.stats.mean_acceptance_length:.2f}", "1.00"),
        ("tokens/s", f"{rates[0]:.1f}", f"{rates[1]:.1f}"),
        ("speed-up", f"{rates[0] / rates[1]:.2f}", "1.00"),
        ("texts equal", "yes" if assisted.token_ids == plain.token_ids else "NO", ""),
    ]
    for name, left, right in rows:
        print(f"{name:24}{left:>10}{right:>10}")


@contextmanager
def _service(kind: str, listen: str, metrics_port: int, *extra: str) -> Iterator[None]:
    """Runs a service as a process of its own, on one core, for the time of the context."""
    command = [
        sys.executable,
        "-m",
        f"{kind}_service",
        "--model",
        str(MODELS / kind),
        "--threads",
        "1",
    ]
    command += ["--listen", listen, "--metrics-listen", f"127.0.0.1:{metrics_port}", *extra]
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _wait(client: Client, patience_s: float = 120.0) -> None:
    """Waits until the target answers."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            client.info()
            return
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
