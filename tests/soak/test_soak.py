"""Everything at random for minutes: afterwards nothing is left over, and every text was right.

`make soak` runs it for a quarter of an hour (SOAK_S=900), `make test-long` for two minutes. The
seed of the run is in the summary; SOAK_SEED repeats the order of the actions.
"""

import asyncio
import ctypes
import gc
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from foredraft import AsyncClient, DeadlineExceededError, ForedraftError, OverloadedError
from foredraft.v1 import target_pb2_grpc
from foredraft.wire import GENERATION_FIELDS
from target_service.settings import TargetSettings
from tests.integration.test_poisons import requests
from tests.loopback import LoopbackDraft, LoopbackTarget, draft_service, target_service
from tests.models import bundled, rows_of
from tests.strategies.test_together import EVERY

SOAK_S = float(os.environ.get("SOAK_S", "120"))
SEED = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 2**31)))
CALLERS, ROWS, NEW_TOKENS = 6, 8, 16
# What a process may keep: pages that the allocator has not given back.
_GROWTH_BYTES, _FILES = 64 << 20, 8
PROMPTS = ("def main(", "import os\n", "class Node:\n    def ")
STRATEGIES: dict[str, dict[str, Any]] = {
    **EVERY,
    "green list": {"watermarking_config": {"bias": 2.5}},
    "quantized": {"cache_implementation": "quantized"},
    "guided": {"guidance_scale": 1.5, "negative_prompt": "import"},
    "scores": {"output_scores": True, "output_logits": True},
}


class Crowd:
    """The callers, what they did, and the texts that they compare with."""

    def __init__(self, target: LoopbackTarget, draft: LoopbackDraft) -> None:
        self.target, self.draft = target, draft
        self.random = random.Random(SEED)
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self._texts: dict[tuple[str, str], Any] = {}
        self._restarting = asyncio.Lock()

    async def text(self, client: AsyncClient) -> None:
        """A call of any strategy, whose text is that of every equal call."""
        name, prompt = self.random.choice(list(STRATEGIES)), self.random.choice(PROMPTS)
        fields = STRATEGIES[name]
        found = await client.generate(prompt, max_new_tokens=NEW_TOKENS, **fields)
        texts = [one.token_ids for one in (found if isinstance(found, list) else [found])]
        if texts != self._texts.setdefault((name, prompt), texts):
            self.faults.append(f"{name} after {prompt!r} said something else")

    async def leave(self, client: AsyncClient) -> None:
        """A caller who goes away in the middle."""
        running = asyncio.create_task(
            client.generate(self.random.choice(PROMPTS), max_new_tokens=120)
        )
        await asyncio.sleep(self.random.random() / 4)
        running.cancel()
        await asyncio.wait([running])

    async def hurry(self, client: AsyncClient) -> None:
        """A call with a deadline that passes, or that is refused because it would."""
        timeout_s = 0.02 + self.random.random() / 10
        with suppress(DeadlineExceededError, OverloadedError):
            await client.generate(PROMPTS[0], max_new_tokens=200, timeout=timeout_s)

    async def dawdle(self, client: AsyncClient) -> None:
        """A reader who stops to read, and leaves."""
        async with client.stream(PROMPTS[1], max_new_tokens=100) as stream:
            async for _ in stream:
                await asyncio.sleep(self.random.random() / 2)
                break

    async def poison(self, client: AsyncClient) -> None:
        """A value at the edge of what a field takes, or beyond."""
        field = self.random.choice(list(GENERATION_FIELDS.values()))
        calls = list(requests(field, bundled("target").known_ids))
        name, call = self.random.choice(calls)
        async with grpc.aio.insecure_channel(self.target.address) as channel:
            stub: Any = target_pb2_grpc.TargetServiceStub(channel)
            try:
                async for _ in stub.Generate(call, timeout=60):
                    pass
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    self.faults.append(f"{name[:80]}: {error.code().name}: {error.details()}")

    async def look(self, client: AsyncClient) -> None:
        """The calls beside generation."""
        await client.tokenize(self.random.choice(PROMPTS))
        await client.detect_watermark("def main(x): return x + 1", watermarking_config={"bias": 2})

    async def restart(self, client: AsyncClient) -> None:
        """A draft that goes away under its sequences, and comes back."""
        async with self._restarting:
            await self.draft.stop()
            await asyncio.sleep(self.random.random() / 4)
            await self.draft.start()

    async def caller(self, client: AsyncClient, until: float) -> None:
        """Does one thing after another."""
        actions: list[tuple[int, Callable[[AsyncClient], Awaitable[None]]]] = [
            (50, self.text),
            (12, self.leave),
            (8, self.hurry),
            (8, self.dawdle),
            (12, self.poison),
            (6, self.look),
            (4, self.restart),
        ]
        weights = [weight for weight, _ in actions]
        while time.monotonic() < until:
            action = self.random.choices([a for _, a in actions], weights)[0]
            self.done[action.__name__] += 1
            try:
                async with asyncio.timeout(60):
                    await action(client)
            except (ForedraftError, TimeoutError) as error:
                self.faults.append(f"{action.__name__}: {type(error).__name__}: {error}")


class Records(logging.Handler):
    """Keeps what a log should not have."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name == "asyncio":
            self.noise.append(f"{record.name}: {record.getMessage()}")


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    draft, target = (bundled(kind).module for kind in ("draft", "target"))
    async with (
        draft_service(rows_of(draft, ROWS, 256, spare=64), bundled("draft")) as drafting,
        target_service(
            rows_of(target, ROWS, 256, spare=16),
            bundled("target"),
            drafting.address,
            draft_timeout=TargetSettings.draft_timeout,
        ) as serving,
    ):
        yield Crowd(serving, drafting)


async def _settled(condition: Callable[[], bool]) -> bool:
    for _ in range(3000):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


def _resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _left_over() -> tuple[int, int, int]:
    """Returns the numbers of tasks, threads and open files."""
    return len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))


@pytest.mark.long
async def test_nothing_is_left_over(measured: Callable[[str], None]) -> None:
    records = Records()
    logging.getLogger().addHandler(records)
    try:
        async with crowd() as running, AsyncClient(running.target.address) as client:
            engines = [running.target.engine, running.draft.engine]

            def idle() -> bool:
                return all(e and e.pool.in_use == e.pool.waiting == 0 for e in engines)

            async def soak(spent_s: float) -> tuple[int, tuple[int, int, int]]:
                until = time.monotonic() + spent_s
                await asyncio.gather(*(running.caller(client, until) for _ in range(CALLERS)))
                assert await _settled(idle), "rows are still held"
                await asyncio.sleep(0.5)
                return _resident_bytes(), _left_over()

            # The first part fills caches, pools and arenas, which stay.
            memory, left = await soak(SOAK_S / 3)
            memory_after, left_after = await soak(2 * SOAK_S / 3)
    finally:
        logging.getLogger().removeHandler(records)
    grown = (memory_after - memory) / 2**20
    measured(
        f"soak of {SOAK_S:g} s, seed {SEED}: {sum(running.done.values())} actions, "
        f"{len(running.faults)} faults, {grown:+.1f} MiB"
    )
    assert not running.faults, "\n".join(running.faults[:20])
    assert not records.noise, "\n".join(records.noise[:20])
    assert memory_after - memory < _GROWTH_BYTES
    for name, before, after in zip(("tasks", "threads", "files"), left, left_after, strict=True):
        assert after <= before + _FILES, f"{before} {name} became {after}"
