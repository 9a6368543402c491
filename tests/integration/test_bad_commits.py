"""A commit that makes no sense is refused by name; the streams next to it go on."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from foredraft.v1 import draft_pb2, draft_pb2_grpc, generation_pb2
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import LoopbackDraft, draft_service, named_fields


@pytest.fixture
async def draft() -> AsyncIterator[LoopbackDraft]:
    async with draft_service(TableRows(random_table(10, 0)), table_model(10)) as service:
        yield service


def _open(**fields: Any) -> draft_pb2.DraftRequest:
    sampling = generation_pb2.GenerationConfig(top_k=0, max_length=200, max_matching_ngram_size=2)
    opened = draft_pb2.Open(epoch=1, sampling=sampling, k=3, max_length=200, prompt_ids=[1, 2])
    config = fields.pop("config", {})
    for name, value in fields.items():
        opened.ClearField(name)
        if isinstance(value, list):
            getattr(opened, name).extend(value)
        else:
            setattr(opened, name, value)
    for name, value in config.items():
        setattr(opened.sampling, name, value)
    return draft_pb2.DraftRequest(open=opened)


def _commit(**fields: Any) -> draft_pb2.DraftRequest:
    return draft_pb2.DraftRequest(
        commit=draft_pb2.Commit(**{"base_len": 2, "next_id": 1, "k": 1} | fields)
    )


BAD_DRAFTS: dict[str, tuple[list[draft_pb2.DraftRequest], str]] = {
    "no open": ([_commit()], "open"),
    "open twice": ([_open(), _open()], "open"),
    "no prompt": ([_open(prompt_ids=[])], "prompt_ids"),
    "a long scope": ([_open(cache_scope=b"x" * 65)], "cache_scope"),
    "a long owner": ([_open(owner=b"x" * 65)], "owner"),
    "an id outside": ([_open(prompt_ids=[1, 10])], "prompt_ids"),
    "an endless draft": ([_open(k=10**6)], "k"),
    "NaN": ([_open(config={"temperature": float("nan")})], "temperature"),
    "no such rule": ([_open(rule=9)], "sampling_rule"),
    "another base": ([_open(), _commit(base_len=7)], "base_len"),
    "a committed id outside": ([_open(), _commit(next_id=10)], "next_id"),
    "an accepted id outside": ([_open(), _commit(accepted_ids=[99])], "accepted_ids"),
}


async def _refusal(call: Any, requests: list[draft_pb2.DraftRequest]) -> grpc.aio.AioRpcError:
    try:
        for request in requests:
            await call.write(request)
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("it ended without an error")


async def test_a_draft_refuses_by_name_too(draft: LoopbackDraft) -> None:
    async with grpc.aio.insecure_channel(draft.address) as channel:
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        good = stub.Draft()
        await good.write(_open())
        for name, (requests, field) in BAD_DRAFTS.items():
            call = stub.Draft()
            error = await _refusal(call, requests)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, name
            assert named_fields(error) == {field}, name
        assert (await good.read()).opened.epoch == 1
        assert (await good.read()).block.base_len == 2
        await good.write(_commit(k=2))
        assert (await good.read()).block.base_len == 3
        good.cancel()
