"""Any messages to every method of both services: an answer or a refusal, and nothing is left."""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings

from foredraft import AsyncClient
from tests.hostile.messages import Method, calls, methods
from tests.loopback import LoopbackDraft, LoopbackTarget, draft_service, target_service
from tests.models import bundled, rows_of

METHODS = {one.path.removeprefix("/foredraft.v1."): one for one in methods()}
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,  # what gateways may ask of others
}
_PATIENCE_S = 120.0  # of a machine with other tests on it
_FACTOR, _SPARE_S = 5.0, 2.0
_GROWTH_BYTES, _TASKS = 300 << 20, 2
_THREADS = 11  # of pools, and in each service those that give memory back or compile for a moment


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[LoopbackTarget, LoopbackDraft]]:
    """Both services with real models; the target lets callers save named configs."""
    saving: dict[str, Any] = {"generation_configs": str(folder), "save_generation_configs": True}
    async with (
        draft_service(
            rows_of(bundled("draft").module, 4, 256, spare=64), bundled("draft")
        ) as drafting,
        target_service(
            rows_of(bundled("target").module, 8, 256, spare=16),
            bundled("target"),
            drafting.address,
            **saving,
        ) as serving,
    ):
        yield serving, drafting


def _status(channel: grpc.Channel, path: str, sent: Sequence[Message]) -> grpc.StatusCode:
    """Makes a call and reads it to its end; returns its status."""
    opened: Any = channel.stream_stream(path)
    call = opened(iter([one.SerializeToString() for one in sent]), timeout=_PATIENCE_S)
    with suppress(grpc.RpcError):
        for _ in call:
            pass
    code: grpc.StatusCode = call.code()
    assert code in ANSWERS, f"{code.name}: {call.details()}"
    return code


async def _honest(client: AsyncClient) -> tuple[list[int], float]:
    began = time.perf_counter()
    result = await client.generate("def main(", max_new_tokens=8, eos_token_id=[])
    return list(result.token_ids), time.perf_counter() - began


@pytest.mark.parametrize("name", METHODS)
async def test_any_messages_are_answered_or_refused(
    name: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    method, statuses = METHODS[name], Counter[str]()
    async with pair(tmp_path) as (target, draft), AsyncClient(target.address) as client:
        address = draft.address if "DraftService" in method.path else target.address
        with grpc.insecure_channel(address) as channel:
            await asyncio.to_thread(_status, channel, method.path, [])
            text, usual_s = min([await _honest(client) for _ in range(3)], key=lambda one: one[1])
            left = _left_over()
            await asyncio.to_thread(_search(method, statuses, channel))
            assert target.value("foredraft_rows_in_use") == 0
            assert target.value("foredraft_num_requests_running") == 0
            assert draft.value("foredraft_draft_sessions") == 0
            # A busy machine holds one of them up, and a service that is hurt all of them.
            again, next_s = min([await _honest(client) for _ in range(3)], key=lambda one: one[1])
            memory, threads, tasks = (b - a for a, b in zip(left, _left_over(), strict=True))
    seen = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    measured(f"{name}: {statuses.total()} calls: {seen}; {memory / 2**20:+.0f} MiB")
    assert again == text
    assert next_s < _FACTOR * usual_s + _SPARE_S
    assert memory < _GROWTH_BYTES
    assert threads <= _THREADS
    assert tasks <= _TASKS


def _search(method: Method, statuses: Counter[str], channel: grpc.Channel) -> Callable[[], None]:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="HOSTILE_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(method))
    def search(sent: list[Message]) -> None:
        statuses[_status(channel, method.path, sent).name] += 1

    return search


def _left_over() -> tuple[int, int, int]:
    """Returns the bytes of memory, and the numbers of threads and tasks."""
    return psutil.Process().memory_info().rss, threading.active_count(), len(asyncio.all_tasks())
