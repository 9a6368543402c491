"""Load costs those who make it: a full queue refuses, what is too dear is refused with its field,
late calls never begin, and who does not read is ended.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from foredraft import (
    AsyncClient,
    DeadlineExceededError,
    InvalidRequestError,
    OverloadedError,
)
from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc
from target_service.request.planner import Planner
from tests.fakes import SlowRows, random_table, table_model
from tests.integration.processes import until
from tests.loopback import LoopbackTarget, target_service

VOCAB, ROWS, STEP_S = 10, 4, 0.01
TABLE = random_table(VOCAB, 0)
PROMPT = [1, 2, 3]
SETTINGS: dict[str, Any] = {"max_waiting": 8, "send_timeout": 0.5, "fallback": "none"}


@pytest.fixture
async def target() -> AsyncIterator[LoopbackTarget]:
    async with target_service(SlowRows(TABLE, STEP_S, ROWS), table_model(VOCAB), **SETTINGS) as it:
        yield it


@pytest.fixture
async def client(target: LoopbackTarget) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(target.address, max_retries=0) as client:
        yield client


async def _filled(
    target: LoopbackTarget, client: AsyncClient, sequences: int
) -> list[asyncio.Task[Any]]:
    """Returns calls of a sequence each, all of which run or wait."""
    tasks: list[asyncio.Task[Any]] = []
    # Those that come before the rows are lent would wait with the others, too many of them.
    for inside in (ROWS, sequences):
        for _ in range(inside - len(tasks)):
            tasks.append(asyncio.create_task(client.generate(PROMPT, max_new_tokens=400)))
        await _inside(target, inside)
    return tasks


async def _inside(target: LoopbackTarget, sequences: int) -> None:
    """Waits until as many sequences run or wait for a row."""
    waiting = max(0, sequences - ROWS)

    def arrived() -> bool:
        waits = target.value("foredraft_num_requests_waiting")
        return target.engine.pool.in_use == sequences - waiting and waits == waiting

    await asyncio.to_thread(until, arrived)


async def _left(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_full_queue_refuses_and_says_when_to_come_back(
    target: LoopbackTarget, client: AsyncClient
) -> None:
    tasks = await _filled(target, client, ROWS + SETTINGS["max_waiting"])
    with pytest.raises(OverloadedError, match="--max-waiting") as caught:
        await client.generate(PROMPT, max_new_tokens=4)
    error = caught.value.__cause__
    assert isinstance(error, grpc.aio.AioRpcError)
    trailers = dict(error.trailing_metadata())
    assert int(trailers["grpc-retry-pushback-ms"]) >= 100
    (detail,) = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    assert detail.Unpack(info := error_details_pb2.RetryInfo())
    assert info.retry_delay.ToMilliseconds() == int(trailers["grpc-retry-pushback-ms"])
    assert target.value("foredraft_requests_refused_total", reason="queue") == 1
    assert target.value("foredraft_request_failure_total", reason="overloaded") == 1
    await _left(tasks)
    # The leaving of the others takes a moment to arrive; who comes back when told to finds a place.
    async with AsyncClient(target.address) as patient:
        assert (await patient.generate(PROMPT, max_new_tokens=4)).token_ids


async def test_waiting_requests_take_bounded_memory() -> None:
    settings = {**SETTINGS, "max_waiting": 100, "max_waiting_bytes": 3000}
    async with (
        target_service(SlowRows(TABLE, STEP_S, ROWS), table_model(VOCAB), **settings) as target,
        AsyncClient(target.address, max_retries=0) as client,
    ):
        tasks = await _filled(target, client, ROWS)
        long = [asyncio.create_task(client.generate([1] * 500)) for _ in range(12)]

        def refused() -> float:
            return target.value("foredraft_requests_refused_total", reason="bytes")

        def all_came() -> bool:
            return target.value("foredraft_num_requests_waiting") + refused() == len(long)

        await asyncio.to_thread(until, all_came)
        assert 1 <= refused() < len(long)
        await asyncio.to_thread(until, lambda: sum(t.done() for t in long) >= refused())
        assert all(isinstance(t.exception(), OverloadedError) for t in long if t.done())
        await _left([*tasks, *long])


@pytest.mark.parametrize(
    ("field", "flag", "arguments"),
    [
        ("num_beams", "--max-beams", {"num_beams": 4}),
        ("top_k", "--max-candidates", {"penalty_alpha": 0.6, "top_k": 9}),
        ("bad_words_ids", "--max-listed-ids", {"bad_words_ids": [[1, 2, 3]] * 10}),
        ("sequence_bias", "--max-listed-ids", {"sequence_bias": [[[2, i], 1.0] for i in range(9)]}),
        (
            "num_return_sequences",
            "--max-sequences",
            {"do_sample": True, "num_return_sequences": 9},
        ),
    ],
)
async def test_what_is_too_dear_names_the_field_and_the_flag(
    field: str, flag: str, arguments: dict[str, Any]
) -> None:
    maxima: dict[str, Any] = {
        "max_beams": 3,
        "max_candidates": 8,
        "max_listed_ids": 16,
        "max_sequences": 8,
    }
    async with (
        target_service(SlowRows(TABLE, STEP_S, ROWS), table_model(VOCAB), **maxima) as target,
        AsyncClient(target.address) as client,
    ):
        with pytest.raises(InvalidRequestError, match=flag) as caught:
            await client.generate(PROMPT, max_new_tokens=4, **arguments)
        assert caught.value.field == field


async def test_a_call_that_would_be_late_is_refused_at_once(
    target: LoopbackTarget, client: AsyncClient
) -> None:
    await asyncio.gather(*(client.generate(PROMPT, max_new_tokens=40) for _ in range(8)))
    tasks = await _filled(target, client, ROWS + 4)
    with pytest.raises(OverloadedError, match=r"deadline is in .* at least .* fewer tokens"):
        await client.generate(PROMPT, max_new_tokens=400, timeout=3.0)
    assert target.value("foredraft_requests_refused_total", reason="deadline") == 1
    await _left(tasks)


async def test_a_call_of_many_sequences_lets_others_go_first(
    target: LoopbackTarget, client: AsyncClient
) -> None:
    many = asyncio.create_task(
        client.generate(PROMPT, max_new_tokens=60, do_sample=True, num_return_sequences=200)
    )
    await _inside(target, 200)
    result = await asyncio.wait_for(client.generate(PROMPT, max_new_tokens=4), 60)
    assert result.token_ids
    assert not many.done()
    await _left([many])


def _stuck(address: str) -> tuple[Any, Any]:
    """Returns a channel, and a call on it of which nothing is read."""
    channel = grpc.aio.insecure_channel(address, options=[("grpc.http2.bdp_probe", 0)])
    config = generation_pb2.GenerationConfig(max_new_tokens=400, output_logits=True)
    prompt = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=PROMPT))
    request = target_pb2.GenerateRequest(prompts=[prompt] * 40, config=config)
    return channel, target_pb2_grpc.TargetServiceStub(channel).Generate(request)


async def test_who_does_not_read_is_ended_and_his_rows_are_free(
    target: LoopbackTarget, client: AsyncClient
) -> None:
    stuck = [_stuck(target.address) for _ in range(2)]
    await asyncio.to_thread(
        until, lambda: target.value("foredraft_request_failure_total", reason="unread") == 2
    )
    assert target.engine.pool.in_use == 0
    assert (await client.generate(PROMPT, max_new_tokens=4)).token_ids
    for channel, call in stuck:  # whoever reads again gets what was sent, and why it ended
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert "tokens were generated" in (caught.value.details() or "")
        trailers = dict(caught.value.trailing_metadata())
        details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
        rest = [target_pb2.Chunk() for _ in details]
        assert all(detail.Unpack(chunk) for detail, chunk in zip(details, rest, strict=True))
        assert sum(len(chunk.token_ids) for chunk in rest) > 10, "what was not sent is in the error"
        await channel.close()


async def test_the_deadline_of_a_call_that_waits_ends_it(
    target: LoopbackTarget, client: AsyncClient
) -> None:
    tasks = await _filled(target, client, ROWS)
    with pytest.raises(DeadlineExceededError):
        await client.generate(PROMPT, max_new_tokens=4, timeout=0.3)
    await _left(tasks)


async def test_what_is_sure_to_be_refused_is_never_planned(
    target: LoopbackTarget, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*(client.generate(PROMPT, max_new_tokens=40) for _ in range(8)))
    tasks = await _filled(target, client, ROWS + SETTINGS["max_waiting"] // 2)
    planned: list[object] = []
    monkeypatch.setattr(Planner, "checked", lambda self, *request: planned.append(request))
    with pytest.raises(OverloadedError, match="deadline"):
        await client.generate(PROMPT, max_new_tokens=400, timeout=3.0)
    assert not planned
    await _left(tasks)
