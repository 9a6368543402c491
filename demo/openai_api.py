"""The OpenAI API over foredraft: a draft, a target and the gateway SMG on loopback, and one
conversation over HTTP, streamed.

    make demo-openai
    make demo-openai ARGS=--stay    # it runs until Ctrl-C, for calls of your own
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from demo import services
from demo.pair import ROOT, bundled_pair
from demo.run import LOGS, pair_of

SMG = ROOT / ".venv-smg" / "bin" / "smg"
_QUESTION = "Explain in two sentences how a lighthouse works."
_MAX_TOKENS = 96
_ANSWER_TIMEOUT_S = 300.0
_END_TIMEOUT_S = 30.0


def main() -> int:
    """Runs the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description="Serve the OpenAI API, and ask it.")
    parser.add_argument("--smg", default=str(SMG), help="the program of the gateway")
    parser.add_argument("--bundled", action="store_true", help="the small pair; nothing is fetched")
    parser.add_argument("--stay", action="store_true", help="run until Ctrl-C")
    args = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that a terminal has not is no error
        sys.stdout.reconfigure(errors="replace")
    pair = bundled_pair() if args.bundled else pair_of(False, drafted=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    print(f"- starting {pair.name}, its draft and a gateway; logs are in {LOGS}/", flush=True)
    with services.serving(pair, LOGS) as target, _gateway(target, args.smg) as url:
        converses = pair.questions[0].name != "code"
        path, asked = _call(str(pair.target), converses)
        print(f"\nThe OpenAI API is at {url}/v1. The same by curl:\n")
        print(f"curl --no-buffer {url}{path} -H 'content-type: application/json' \\")
        print(f"    -d {shlex.quote(json.dumps(asked))}\n", flush=True)
        usage = _show(url + path, asked)
        print(f"\n{json.dumps(usage)}")
        if args.stay:
            print("Ctrl-C ends it.", flush=True)
            with suppress(KeyboardInterrupt):
                while True:
                    input()
    return 0 if usage.get("completion_tokens") else 1


def _call(model: str, converses: bool) -> tuple[str, dict[str, Any]]:
    """Returns where it is asked and what."""
    asked: dict[str, Any] = {"model": model, "max_tokens": _MAX_TOKENS, "temperature": 0}
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    if converses:
        message = {"role": "user", "content": _QUESTION}
        return "/v1/chat/completions", {**asked, "messages": [message]}
    return "/v1/completions", {**asked, "prompt": "def main("}


def _show(url: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Shows an answer while it comes; returns what it says of its tokens."""
    sent = Request(url, json.dumps(asked).encode(), {"content-type": "application/json"})
    usage: dict[str, Any] = {}
    with build_opener(ProxyHandler({})).open(sent, timeout=_ANSWER_TIMEOUT_S) as lines:
        for line in lines:
            event = line.decode().removeprefix("data: ").strip()
            if not event or event == "[DONE]":
                continue
            told = json.loads(event)
            usage = told.get("usage") or usage
            for choice in told["choices"]:
                text = choice.get("text") or choice.get("delta", {}).get("content") or ""
                print(text, end="", flush=True)
    print()
    return usage


@contextmanager
def _gateway(target: str, smg: str) -> Iterator[str]:
    """Runs a gateway for the time of the context; yields its URL.

    Raises:
        NotStartedError: it ended.
    """
    listen, log = services.free_address(), Path(LOGS / "gateway.log")
    command = [sys.executable, "-m", "foredraft.cli", "gateway", target, "--listen", listen]
    command += ["--metrics-listen", services.free_address(), "--smg", smg]
    with log.open("wb") as told:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told)
    try:
        if not (process.stdout and process.stdout.readline()):
            raise services.NotStartedError(f"the gateway ended, see {log}")
        yield f"http://{listen}"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    sys.exit(main())
