"""However a request ends, its rows on both services are free within one round."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from foredraft import AsyncClient, Client, DeadlineExceededError, InternalError
from tests.fakes import SlowRows, random_table, table_model
from tests.integration.processes import ROOT, environment
from tests.loopback import LoopbackDraft, LoopbackTarget, draft_service, target_service

VOCAB, K = 10, 4
TABLE = random_table(VOCAB, 0)
PROMPT = [1, 2, 3]
LONG: dict[str, Any] = {
    "max_new_tokens": 400,
    "num_assistant_tokens": K,
    "assistant_confidence_threshold": 0.0,
}
TARGET_STEP_S, DRAFT_STEP_S = 0.08, 0.01


@dataclass
class Pair:
    """Both services, in this process."""

    target: LoopbackTarget
    draft: LoopbackDraft
    target_rows: SlowRows
    draft_rows: SlowRows

    @property
    def in_use(self) -> tuple[int, int]:
        assert self.draft.engine
        return self.target.engine.pool.in_use, self.draft.engine.pool.in_use

    @property
    def steps(self) -> tuple[int, int]:
        return len(self.target_rows.steps), len(self.draft_rows.steps)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    target_rows, draft_rows = (SlowRows(TABLE, step_s) for step_s in (TARGET_STEP_S, DRAFT_STEP_S))
    async with (
        draft_service(draft_rows, table_model(VOCAB), ngram="off") as draft,
        target_service(target_rows, table_model(VOCAB), draft.address) as target,
    ):
        yield Pair(target, draft, target_rows, draft_rows)


async def done(pair: Pair) -> None:
    async with AsyncClient(pair.target.address) as client:
        await client.generate(PROMPT, max_new_tokens=12, num_assistant_tokens=K)


async def cancelled(pair: Pair) -> None:
    async with AsyncClient(pair.target.address) as client:
        running = asyncio.create_task(client.generate(PROMPT, **LONG))
        await both_in_use(pair)
        running.cancel()
        await asyncio.wait([running])


async def broken_off(pair: Pair) -> None:
    async with AsyncClient(pair.target.address) as client, client.stream(PROMPT, **LONG) as stream:
        async for _ in stream:
            await both_in_use(pair)
            break


async def broken_off_by_a_thread(pair: Pair) -> None:
    def leave() -> None:
        with Client(pair.target.address) as client, client.stream(PROMPT, **LONG) as stream:
            for _ in stream:
                break

    await asyncio.to_thread(leave)


async def disconnected(pair: Pair) -> None:
    stream = f"foredraft.Client('{pair.target.address}').stream({PROMPT}, **{LONG})"
    code = f"import foredraft\nfor c in {stream}: print(1, flush=True)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    await process.stdout.readline()
    await both_in_use(pair)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()


async def out_of_time(pair: Pair) -> None:
    async with AsyncClient(pair.target.address) as client:
        with pytest.raises(DeadlineExceededError):
            await client.generate(PROMPT, **LONG, timeout=1.001)  # which gRPC sends as 1.01 s


async def failed(pair: Pair) -> None:
    async with AsyncClient(pair.target.address) as client:
        running = asyncio.create_task(client.generate(PROMPT, **LONG))
        await both_in_use(pair)
        pair.target_rows.fails = True
        with pytest.raises(InternalError):
            await running


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


async def both_in_use(pair: Pair) -> None:
    await until(lambda: pair.in_use == (1, 1))


EXITS: list[tuple[Callable[[Pair], Awaitable[None]], str]] = [
    (done, ""),
    (cancelled, "cancelled"),
    (broken_off, "cancelled"),
    (broken_off_by_a_thread, "cancelled"),
    (disconnected, "cancelled"),
    (out_of_time, "deadline"),
    (failed, "error"),
]


@pytest.mark.parametrize(("leave", "reason"), EXITS, ids=lambda x: getattr(x, "__name__", ""))
async def test_rows_are_free_within_a_round(
    pair: Pair, leave: Callable[[Pair], Awaitable[None]], reason: str
) -> None:
    await leave(pair)
    began = pair.steps
    await until(lambda: pair.in_use == (0, 0))
    target_steps, draft_steps = (now - then for now, then in zip(pair.steps, began, strict=True))
    assert target_steps <= 1  # the one under way
    assert draft_steps <= K  # those of one proposal
    await both_idle(pair)
    assert pair.target.value("foredraft_num_requests_running") == 0
    assert pair.draft.value("foredraft_draft_sessions") == 0
    assert pair.draft.value("foredraft_draft_requests_total", outcome="done") == 1
    if reason:
        assert pair.target.value("foredraft_request_failure_total", reason=reason) == 1


async def both_idle(pair: Pair) -> None:
    """Waits until both device threads rest: nobody computes for a request that has gone."""
    async with asyncio.timeout(10):
        while True:
            before = pair.steps
            await asyncio.sleep(3 * TARGET_STEP_S)
            if before == pair.steps:
                return


async def test_leaving_the_queue_takes_no_row(pair: Pair) -> None:
    async with AsyncClient(pair.target.address) as client:
        running = [asyncio.create_task(client.generate(PROMPT, **LONG)) for _ in range(6)]
        await until(lambda: pair.target.engine.pool.waiting == 2)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    await until(lambda: pair.in_use == (0, 0) and not pair.target.engine.pool.waiting)
