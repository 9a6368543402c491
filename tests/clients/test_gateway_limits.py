"""What the gateway itself does not pass on, as docs/openai.md tells it: a newer one that does shows
itself here.
"""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("smg", reason="`make test-clients` runs these tests")

import grpc
from openai import APIStatusError, OpenAI

from tests.clients.conftest import Served
from tests.clients.services import PATIENCE_S, free_address, paths

PROMPT = "def main("
TALK: Any = [{"role": "user", "content": PROMPT}]
BOOLEAN: Any = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"type": "boolean"}},
}


def _text(client: Any, asked: Any) -> str:
    return str(client.completions.create(prompt=PROMPT, **asked).choices[0].text)


def _said(client: Any, asked: Any) -> str:
    return str(client.chat.completions.create(messages=TALK, **asked).choices[0].message.content)


def _same(
    of: Callable[[Any, Any], str], **ignored: Any
) -> tuple[Callable[[Any, dict[str, Any]], bool], bool]:
    """Returns a call that tells whether a field changes nothing, and that it does not."""
    return lambda client, asked: of(client, {**asked, **ignored}) == of(client, asked), True


def _refused(client: Any, asked: dict[str, Any]) -> int:
    with pytest.raises(APIStatusError) as refused:
        client.completions.create(prompt=[300, 301], **asked)
    return int(refused.value.status_code)


def _has_logprobs(client: Any, asked: dict[str, Any]) -> bool:
    choices = client.completions.create(prompt=PROMPT, logprobs=2, echo=True, **asked).choices
    return choices[0].logprobs is not None


def _suffixed(client: Any, asked: dict[str, Any]) -> bool:
    return _text(client, {**asked, "suffix": "return"}) == _text(client, asked) + "return"


def _cached_tokens(client: Any, asked: dict[str, Any]) -> int:
    told = [client.completions.create(prompt=PROMPT * 9, **asked).usage for _ in range(4)]
    return max(int(usage.prompt_tokens_details.cached_tokens) for usage in told)


LIMITS: dict[str, tuple[Callable[[Any, dict[str, Any]], Any], Any]] = {
    "completions tell no log-probabilities": (_has_logprobs, False),
    "prompts of token ids": (_refused, 400),
    "logit_bias of completions": _same(_text, logit_bias={"300": 100}),
    "logit_bias of conversations": _same(_said, logit_bias={"300": 100}),
    "response_format of completions": _same(_text, extra_body={"response_format": BOOLEAN}),
    "suffix is written behind the text": (_suffixed, True),
    "structured_outputs": _same(_said, extra_body={"structured_outputs": {"choice": ["a", "b"]}}),
    "a caller's name, by which prompts are kept": (_cached_tokens, 0),
    "choice": _same(_said, extra_body={"choice": ["a", "b"]}),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_not_passed(served: Served, name: str) -> None:
    call, known = LIMITS[name]
    client = OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0, timeout=240)
    found = call(client, served.call())
    assert found == known, "the gateway does otherwise now: tell it in docs/openai.md"


class _Worker(grpc.GenericRpcHandler):
    """Notes what it is shown, and serves nothing."""

    def __init__(self) -> None:
        self.shown: list[set[str]] = []

    def service(self, call: Any) -> None:
        self.shown.append({name for name, _ in call.invocation_metadata})


def test_a_worker_is_shown_no_credential() -> None:
    worker = _Worker()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[worker])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    command = [sys.executable, "-m", "foredraft.cli", "gateway", f"127.0.0.1:{port}"]
    command += ["--listen", free_address(), "--metrics-listen", free_address(), "--wait", "10"]
    try:
        done = subprocess.run(
            [*command, "--smg-flags=--api-key KEY"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=paths(),
        )
    finally:
        server.stop(None)
    assert "no target was ready in 10 s" in done.stderr
    assert worker.shown, "it has called"
    assert not any("authorization" in names for names in worker.shown)
