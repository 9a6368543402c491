"""Several draft services behind one name: sequences take turns and avoid one that drains."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from foredraft import AsyncClient
from foredraft.v1 import draft_pb2, generation_pb2
from foredraft_engine.vocabulary import Vocabulary
from foredraft_serving import server, transport
from foredraft_serving.probe import is_serving
from foredraft_serving.server import READINESS
from target_service.drafting.draft_pool import DraftEndpoint
from tests.fakes import SlowRows, random_table, table_model
from tests.integration.processes import Process, service, until
from tests.loopback import target_service


def _open() -> draft_pb2.DraftRequest:
    sampling = generation_pb2.GenerationConfig(max_matching_ngram_size=2, top_k=0, max_length=200)
    return draft_pb2.DraftRequest(
        open=draft_pb2.Open(epoch=1, prompt_ids=[1, 2], sampling=sampling, k=1, max_length=200)
    )


async def _follow(draft: DraftEndpoint) -> None:
    """Follows one sequence up to the draft's answer."""
    call = draft.open(_requests(), "")
    response = await call.read()
    assert response.WhichOneof("message") == "opened"
    call.cancel()


async def _until_none_is_refused(draft: DraftEndpoint) -> None:
    """Follows sequences until the connection knows whom it need not ask."""
    served = 0
    async with asyncio.timeout(60):
        while served < 3:
            try:
                await _follow(draft)
                served += 1
            except grpc.aio.AioRpcError:
                served = 0


async def _requests() -> AsyncIterator[draft_pb2.DraftRequest]:
    yield _open()
    await asyncio.sleep(60)


def _followed(process: Process) -> int:
    return process.log.read_text().count("sequence ended")


async def test_a_pool_of_drafts(tmp_path: Path) -> None:
    flags = ("--ngram", "only", "--grace", "20")
    with (
        service("draft", tmp_path / "a.log", *flags) as a,
        service("draft", tmp_path / "b.log", *flags) as b,
    ):
        draft = DraftEndpoint(f"ipv4:{a.address},{b.address}", Vocabulary(b"", 100))
        await _follow(draft)
        async with asyncio.timeout(60):
            while not (_followed(a) and _followed(b)):  # until it is connected to both
                await _follow(draft)
                await asyncio.sleep(0.1)
        before = _followed(a), _followed(b)
        for _ in range(10):
            await _follow(draft)
        await asyncio.to_thread(until, lambda: _followed(a) >= before[0] + 5)
        await asyncio.to_thread(until, lambda: _followed(b) >= before[1] + 5)
        held = draft.open(_requests(), "")  # keeps one of them in its drain
        await held.read()
        a.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not is_serving(a.address, READINESS))
        await _until_none_is_refused(draft)
        ended = _followed(b)
        for _ in range(6):
            await _follow(draft)
        await asyncio.to_thread(until, lambda: _followed(b) >= ended + 6)
        held.cancel()
        await draft.close()


async def test_a_connection_that_ends_by_age_cuts_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aged = [
        (name, 500 if name == "grpc.max_connection_age_ms" else value)
        for name, value in transport.call_options()
    ]
    assert aged != transport.call_options()
    monkeypatch.setattr(server, "call_options", lambda: aged)
    table = random_table(10, 0)
    async with (
        target_service(SlowRows(table, step_s=0.01), table_model(10)) as target,
        AsyncClient(target.address) as client,
    ):
        began, longest = time.monotonic(), 0.0
        while time.monotonic() - began < 4:
            started = time.monotonic()
            result = await client.generate(
                [1, 2], max_new_tokens=100, eos_token_id=[], num_assistant_tokens=0
            )
            longest = max(longest, time.monotonic() - started)
            assert len(result.token_ids) == 100
    assert longest > 0.7, "no call was longer than a connection's age"
