"""The official `openai` client through a real gateway: the texts are those of the SDK."""

import json
from typing import Any

import pytest

pytest.importorskip("smg", reason="`make test-clients` runs these tests")

import httpx
from openai import AsyncOpenAI, OpenAI

from foredraft import Result
from tests.clients.conftest import Served

PROMPT = "def main("
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "seed": 7, "top_k": 0}
# What the client sends, and the same in the SDK.
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {}),
    "seed": ({"temperature": 0.8, "seed": 7}, SAMPLED),
    "top_p": ({"temperature": 0.8, "seed": 7, "top_p": 0.9}, {**SAMPLED, "top_p": 0.9}),
    "n": ({"temperature": 0.8, "seed": 7, "n": 3}, {**SAMPLED, "num_return_sequences": 3}),
    "penalties": (
        {"frequency_penalty": 0.7, "presence_penalty": 0.4},
        {"frequency_penalty": 0.7, "presence_penalty": 0.4},
    ),
    "vLLM's own": (
        {"extra_body": {"repetition_penalty": 1.3, "min_tokens": 4, "ignore_eos": True}},
        {"repetition_penalty": 1.3, "min_new_tokens": 4, "eos_token_id": []},
    ),
    "regex": (
        {"extra_body": {"regex": "[a-c]{4}"}},
        {"response_format": {"type": "regex", "regex": "[a-c]{4}"}},
    ),
}


@pytest.fixture
def client(served: Served) -> Any:
    return OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0, timeout=240)


def _wanted(served: Served, inputs: Any, ours: dict[str, Any]) -> list[str]:
    found = served.sdk.generate(inputs, max_new_tokens=12, **ours)
    return [one.text for one in ([found] if isinstance(found, Result) else found)]


@pytest.mark.parametrize("name", CALLS)
def test_texts_are_those_of_the_sdk(served: Served, client: Any, name: str) -> None:
    theirs, ours = CALLS[name]
    asked = served.call(**theirs)
    wanted = _wanted(served, PROMPT, ours)
    whole = client.completions.create(prompt=PROMPT, **asked)
    assert [choice.text for choice in whole.choices] == wanted
    assert whole.usage.prompt_tokens == len(served.sdk.tokenize(PROMPT))
    pieces = [""] * len(wanted)
    for event in client.completions.create(prompt=PROMPT, stream=True, **asked):
        for choice in event.choices:
            pieces[choice.index] += choice.text
    assert pieces == wanted
    wanted = _wanted(served, TALK, ours)
    talk = client.chat.completions.create(messages=TALK, **asked)
    assert [choice.message.content for choice in talk.choices] == wanted
    pieces = [""] * len(wanted)
    for event in client.chat.completions.create(messages=TALK, stream=True, **asked):
        for choice in event.choices:
            pieces[choice.index] += choice.delta.content or ""
    assert pieces == wanted


async def test_the_async_client_streams_with_usage(served: Served) -> None:
    asked = served.call(stream=True, stream_options={"include_usage": True})
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", timeout=240) as client:
        for events in (
            await client.completions.create(prompt=PROMPT, **asked),
            await client.chat.completions.create(messages=TALK, **asked),
        ):
            told = [event async for event in events]
            assert told[-1].usage.completion_tokens == 12
            assert told[-1].usage.total_tokens == 12 + told[-1].usage.prompt_tokens
            reasons = [c.finish_reason for event in told for c in event.choices]
            assert [reason for reason in reasons if reason] == ["length"]


def test_a_stop_string_ends_a_text(served: Served, client: Any) -> None:
    text = _wanted(served, PROMPT, {})[0]
    stop = text[4:7]
    asked = served.call(stop=[stop])
    (whole,) = client.completions.create(prompt=PROMPT, **asked).choices
    assert (whole.text, whole.finish_reason) == (text[: text.index(stop)], "stop")
    events = list(client.completions.create(prompt=PROMPT, stream=True, **asked))
    assert "".join(c.text for event in events for c in event.choices) == whole.text


def test_log_probabilities_of_a_conversation(served: Served, client: Any) -> None:
    asked = served.call(messages=TALK, logprobs=True, top_logprobs=2)
    want = served.sdk.generate(TALK, max_new_tokens=12, logprobs=2)
    (whole,) = client.chat.completions.create(**asked).choices
    streamed = [
        entry
        for event in client.chat.completions.create(stream=True, **asked)
        for choice in event.choices
        if choice.logprobs
        for entry in choice.logprobs.content
    ]
    for found in (whole.logprobs.content, streamed):
        known = [entry.logprob for entry in want.logprobs]
        assert [entry.logprob for entry in found] == pytest.approx(known, abs=1e-4)
        assert [len(entry.top_logprobs) for entry in found] == [2] * 12


def test_counts_of_speculation(served: Served, client: Any) -> None:
    """Drafted tokens are `accepted_prediction_tokens`, as the gateway calls them."""
    again = [{"role": "user", "content": "def f(a):\n    return a\n" * 6}]
    asked = served.call(messages=again, max_tokens=48)
    details = client.chat.completions.create(**asked).usage.completion_tokens_details
    assert details.accepted_prediction_tokens > 0
    assert details.rejected_prediction_tokens >= 0


def test_messages_of_anthropic(served: Served) -> None:
    """The gateway speaks that API, too, for the same texts."""
    asked = served.call(system="Be brief.", messages=TALK[1:])
    want = _wanted(served, TALK, {})[0]
    url = f"{served.url}/v1/messages"
    assert httpx.post(url, json=asked, timeout=240).json()["content"][0]["text"] == want
    with httpx.stream("POST", url, json={**asked, "stream": True}, timeout=240) as events:
        told = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == want
