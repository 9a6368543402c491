"""Callers in a process of their own: a job names a server and prompts, which are all sent at once,
and the answers are read as they come.

Every caller has a connection of its own, which is open before the clock starts. foredraft is called
with its SDK. An OpenAI server is called with as little HTTP as it takes, so that its callers need
no more of the cores than the SDK does. This module knows nothing of who is compared.
"""

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.worker import serve
from foredraft import AsyncClient

SERVED_NAME = "model"
_TIMEOUT_S = 300.0


@dataclass(slots=True)
class _Answer:
    """What one caller got: when each piece came, and what was in it."""

    times_s: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # tokens in each piece
    text: str = ""

    def take(self, text: str, tokens: int) -> None:
        self.times_s.append(time.perf_counter())
        self.counts.append(tokens)
        self.text += text

    def between(self, begin_s: float, end_s: float) -> int:
        """Returns the number of tokens that came after the beginning, the end included."""
        pieces = zip(self.times_s, self.counts, strict=True)
        return sum(count for at_s, count in pieces if begin_s < at_s <= end_s)


Caller = Callable[[_Answer], Any]


@asynccontextmanager
async def _foredraft(job: dict[str, Any], prompt: list[int]) -> AsyncIterator[Caller]:
    """A caller with a new credential, so that no row holds what it said before."""
    metadata = {"authorization": secrets.token_hex(8)}
    async with AsyncClient(job["address"], metadata=metadata) as client:
        await client.info()

        async def call(answer: _Answer) -> None:
            asked = {"max_new_tokens": job["new_tokens"], "eos_token_id": [], **job["fields"]}
            async with client.stream(prompt, **asked) as stream:
                async for chunk in stream:
                    answer.take(chunk.text, len(chunk.token_ids))

        yield call


@asynccontextmanager
async def _openai(job: dict[str, Any], prompt: list[int]) -> AsyncIterator[Caller]:
    host, _, port = job["address"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    asked = {
        "model": SERVED_NAME,
        "prompt": prompt,
        "max_tokens": job["new_tokens"],
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **job["fields"],
    }
    body = json.dumps(asked).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    async def call(answer: _Answer) -> None:
        writer.write(head.encode() + body)
        got = 0
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if event["choices"]:
                    now = event["usage"]["completion_tokens"]
                    answer.take(event["choices"][0]["text"], now - got)
                    got = now

    try:
        yield call
    finally:
        writer.close()


_WAYS = {"foredraft": _foredraft, "openai": _openai}


async def _ask(job: dict[str, Any]) -> dict[str, Any]:
    answers = [_Answer() for _ in job["prompts"]]
    async with AsyncExitStack() as stack:
        way = _WAYS[job["way"]]
        calls = [await stack.enter_async_context(way(job, p)) for p in job["prompts"]]
        began_s = time.perf_counter()
        pairs = zip(calls, answers, strict=True)
        await asyncio.wait_for(asyncio.gather(*(c(a) for c, a in pairs)), _TIMEOUT_S)
    return _told(began_s, answers, job["new_tokens"])


def _told(began_s: float, answers: Sequence[_Answer], new_tokens: int) -> dict[str, Any]:
    counts = [sum(answer.counts) for answer in answers]
    if set(counts) != {new_tokens}:
        raise RuntimeError(f"wanted {new_tokens} tokens in every answer, got {counts}")
    firsts_s = [answer.times_s[0] - began_s for answer in answers]
    ends_s = [answer.times_s[-1] for answer in answers]
    # While all of them stream, no prompt is read and no row is free.
    begin_s, end_s = max(answer.times_s[0] for answer in answers), min(ends_s)
    tokens = sum(answer.between(begin_s, end_s) for answer in answers) / len(answers)
    return {
        "whole_s": max(ends_s) - began_s,
        "firsts_s": firsts_s,
        "token_s": (end_s - begin_s) / tokens if tokens > 0 else None,
        "texts": [answer.text for answer in answers],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.parse_args()
    serve(lambda job: asyncio.run(_ask(job)))
