"""Targets that are overloaded, readers who leave, and a target that is killed, behind a real
gateway.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("smg", reason="`make test-clients` runs these tests")

from openai import APIError, APIStatusError, AsyncOpenAI

from foredraft import Client
from tests.clients.conftest import Served
from tests.clients.services import MODEL, gateway, target

ENDLESS: dict[str, Any] = {"max_tokens": 1800, "extra_body": {"ignore_eos": True}}
CANCELLED = 'foredraft_request_failure_total{reason="cancelled"}'
CALLERS = 24  # with two rows and two places in the queue of each of two targets


def _client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=240)


async def _outcome(client: Any, asked: dict[str, Any], prompt: str) -> str:
    """Returns nothing if the text came, and the error if it did not."""
    try:
        await client.completions.create(prompt=prompt, **asked)
    except APIStatusError as error:
        return str(error)
    return ""


async def test_overloaded_targets_say_so_and_serve_afterwards(served: Served) -> None:
    asked = served.call(max_tokens=200, extra_body={"ignore_eos": True})
    async with _client(served.url) as client:
        prompts = [f"def f{i}(" for i in range(CALLERS)]
        outcomes = Counter(
            await asyncio.gather(*(_outcome(client, asked, prompt) for prompt in prompts))
        )
        assert outcomes.pop("") >= 2
        assert any("overloaded: 2 calls wait for rows" in refusal for refusal in outcomes)
        # Some may have waited for their plans instead.
        assert all("429" in refusal for refusal in outcomes)
        assert await _outcome(client, served.call(), "def main(") == ""
    await asyncio.to_thread(served.at_rest)


@pytest.mark.parametrize("kind", ["completion", "conversation"])
async def test_a_reader_who_leaves_frees_the_row(served: Served, kind: str) -> None:
    await asyncio.to_thread(served.at_rest)
    before = served.value(CANCELLED)
    async with _client(served.url) as client:
        asked = served.call(**ENDLESS, stream=True)
        if kind == "completion":
            events: Any = await client.completions.create(prompt="def main(", **asked)
        else:
            talk: Any = [{"role": "user", "content": "def main("}]
            events = await client.chat.completions.create(messages=talk, **asked)
        for _ in range(3):
            await anext(events.__aiter__())
        await events.close()
        await asyncio.to_thread(served.at_rest)
    # A text of 1800 tokens did not come to its end.
    assert served.value(CANCELLED) == before + 1


async def test_a_killed_target_ends_its_calls_alone_and_comes_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        targets = [
            stack.enter_context(target(MODEL, tmp_path / f"{i}.log", "--rows", "2"))
            for i in range(2)
        ]
        for one in targets:
            with Client(one.address) as sdk:
                await asyncio.to_thread(sdk.wait_until_ready, 240)
        addresses = [one.address for one in targets]
        flags = "--policy round_robin"
        url = stack.enter_context(gateway(tmp_path / "gateway.log", *addresses, flags=flags))
        client = await stack.enter_async_context(_client(url))
        asked: dict[str, Any] = {"model": str(MODEL), "temperature": 0}

        async def whole(number: int) -> bool:
            """Returns whether a stream came to its end; the third event says that it runs."""
            events = await client.completions.create(
                prompt=f"def f{number}(", stream=True, **asked, **ENDLESS
            )
            told, reason = 0, None
            try:
                async for event in events:
                    told += 1
                    if told == 3:
                        running[number].set()
                    reason = event.choices[0].finish_reason if event.choices else reason
            except APIError:
                return False
            return reason == "length"

        running = [asyncio.Event() for _ in range(2)]
        calls = [asyncio.ensure_future(whole(number)) for number in range(2)]
        async with asyncio.timeout(240):
            for event in running:
                await event.wait()
        held = [one.value("foredraft_rows_in_use") for one in targets]
        assert held == [1, 1]
        targets[1].process.kill()
        assert sorted(await asyncio.gather(*calls)) == [False, True]
        # What comes next goes to the other one.
        for number in range(4):
            answer = await client.completions.create(
                prompt=f"def g{number}(", max_tokens=4, **asked
            )
            assert answer.choices[0].finish_reason == "length"
        # One that comes back is called again.
        back = stack.enter_context(
            target(MODEL, tmp_path / "back.log", "--rows", "2", address=addresses[1])
        )
        with Client(back.address) as sdk:
            await asyncio.to_thread(sdk.wait_until_ready, 240)
        async with asyncio.timeout(240):
            while not back.value("foredraft_generation_tokens_total"):
                await client.completions.create(prompt="def h(", max_tokens=4, **asked)
