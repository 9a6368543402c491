"""Calls that take as much as a caller can ask for: what nobody else is to notice.

A flood is a number of callers who make one kind of call again and again. `FLOODS` holds all of
them; the benchmark of overload and the tests of load go through it. This module knows nothing of
what others feel meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
import grpc.aio

from foredraft import AsyncClient, OverloadedError
from foredraft.v1 import draft_pb2, generation_pb2, target_pb2, target_pb2_grpc

PROMPT = "def main(arguments):\n"
NEIGHBOUR = "one long call"
"""The name of the flood that is none: a well-behaved neighbour."""
UNREAD = "16 callers who do not read"
"""The name of the flood that holds its rows until the service ends it."""
# When a caller comes back whose call was refused or is over.
_PAUSE_S = 1.0
# Longer than a service waits for a reader by default.
_UNREAD_S = 35.0
_GREEN = {"greenlist_ratio": 0.25, "bias": 2.0, "context_width": 1, "seeding_scheme": "lefthash"}
_CREDENTIAL = ("authorization", "Bearer of the flood")
_LARGE = 8_000_000
_GENERATE = "/foredraft.v1.TargetService/Generate"
_DRAFT = "/foredraft.v1.DraftService/Draft"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flood goes: the target's client, and the addresses of both services."""

    client: AsyncClient
    target: str
    draft: str


Call = Callable[[Place], Awaitable[object]]


@asynccontextmanager
async def flood(name: str, target: str, draft: str) -> AsyncIterator[None]:
    """Floods the services for the time of the context, and then leaves all calls.

    Raises:
        Exception: what a caller died of, which was neither refused nor cancelled.
    """
    callers, call = FLOODS[name]
    metadata = dict([_CREDENTIAL])
    async with AsyncClient(target, metadata=metadata, max_retries=0) as client:
        place = Place(client, target, draft)
        tasks = [asyncio.create_task(_call_again(call, place)) for _ in range(callers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


async def _call_again(call: Call, place: Place) -> None:
    while True:
        with suppress(OverloadedError):  # who is refused comes back as well
            await call(place)
        await asyncio.sleep(_PAUSE_S)


async def _unread(place: Place) -> None:
    """A call of which nothing is read until long after the service gave up."""
    options = [("grpc.http2.bdp_probe", 0)]  # so that the window stays small
    prompt = generation_pb2.Prompt(text=PROMPT)
    config = generation_pb2.GenerationConfig(max_new_tokens=900, output_logits=True)
    request = target_pb2.GenerateRequest(prompts=[prompt], config=config)
    async with grpc.aio.insecure_channel(place.target, options=options) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        call = stub.Generate(request, metadata=[_CREDENTIAL])
        try:
            await asyncio.sleep(_UNREAD_S)
        finally:
            call.cancel()


async def _large_lists(place: Place) -> None:
    """A call with millions of ids, which is refused."""
    async with grpc.aio.insecure_channel(place.target) as channel:
        generate: Any = channel.unary_stream(_GENERATE)
        call = generate(_bad_words(), metadata=[_CREDENTIAL])
        await _expect(call, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def _large_commit(place: Place) -> None:
    """A stream to the draft whose first commit is refused."""
    async with grpc.aio.insecure_channel(place.draft) as channel:
        draft: Any = channel.stream_stream(_DRAFT)
        await _expect(draft(_commits()), grpc.StatusCode.INVALID_ARGUMENT)


async def _expect(call: Any, *codes: grpc.StatusCode) -> None:
    """Reads a call to its end, which is an error with one of the codes."""
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        if error.code() in codes:
            return
        raise
    raise AssertionError(f"a call ended well; expected was {codes}")


async def _commits() -> AsyncIterator[bytes]:
    for message in _large_draft_requests():
        yield message


@cache
def _bad_words() -> bytes:
    """Returns a request, as bytes since the SDK would take seconds to write it."""
    words = [generation_pb2.TokenIds(ids=[5] * (_LARGE // 1000)) for _ in range(1000)]
    lists = generation_pb2.TokenIdsList(values=words)
    config = generation_pb2.GenerationConfig(bad_words_ids=lists)
    prompt = generation_pb2.Prompt(text=PROMPT)
    return target_pb2.GenerateRequest(prompts=[prompt], config=config).SerializeToString()


@cache
def _large_draft_requests() -> tuple[bytes, bytes]:
    """Returns the opening of a sequence and a commit of a million ids."""
    sampling = generation_pb2.GenerationConfig(top_k=0, max_length=200, max_matching_ngram_size=2)
    opened = draft_pb2.Open(epoch=1, sampling=sampling, k=3, max_length=200, prompt_ids=[1, 2])
    commit = draft_pb2.Commit(base_len=2, next_id=1, k=1, accepted_ids=[1] * 10**6)
    requests = (draft_pb2.DraftRequest(open=opened), draft_pb2.DraftRequest(commit=commit))
    first, second = (request.SerializeToString() for request in requests)
    return first, second


FLOODS: dict[str, tuple[int, Call]] = {
    NEIGHBOUR: (1, lambda at: at.client.generate(PROMPT, max_new_tokens=900)),
    "256 sampled sequences": (
        1,
        lambda at: at.client.generate(
            PROMPT, max_new_tokens=400, do_sample=True, num_return_sequences=256
        ),
    ),
    "256 prompts of 4 beams": (
        1,
        lambda at: at.client.generate([PROMPT] * 256, max_new_tokens=200, num_beams=4),
    ),
    "contrastive search of 128": (
        1,
        lambda at: at.client.generate(PROMPT, max_new_tokens=900, penalty_alpha=0.6, top_k=128),
    ),
    "4 calls with 1,000 bad words": (
        4,
        lambda at: at.client.generate(
            PROMPT, max_new_tokens=900, bad_words_ids=[[5 + i] * 15 + [7] for i in range(1000)]
        ),
    ),
    "8 detections in 256 texts": (
        8,
        lambda at: at.client.detect_watermark(["def f(x): return x\n" * 250] * 256, _GREEN),
    ),
    UNREAD: (16, _unread),
    "8 commits of a million ids": (8, _large_commit),
    "24 calls of 8 MB of ids": (24, _large_lists),
    # A run of 32 spaces is one token of the bundled models, so that all of it fits and waits.
    "24 calls of 8 MB of text": (
        24,
        lambda at: at.client.generate([" " * (_LARGE // 250)] * 250, max_new_tokens=16),
    ),
}
"""The callers of each flood, and the call that each of them makes."""
