"""A target under more load than it can serve: goodput at one and four times saturation, with and
without a draft, and what a clean caller beside dear calls feels.

    python -m benchmarks.overload [--seconds 40]

Saturation is what as many callers as rows, who never pause, are served. The load of calls comes by
a clock, whether the earlier ones are served or not, and each has a deadline.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.services import Service, service
from foredraft import AsyncClient, ForedraftError

MODELS = Path(__file__).resolve().parent.parent / "demo" / "models"
ROWS, NEW_TOKENS, DEADLINE_S = 16, 64, 10.0
PROMPT = "def main(arguments):\n"
_CLEAN_CALLS = 5
_GREEN = {"greenlist_ratio": 0.25, "bias": 2.0, "context_width": 1, "seeding_scheme": "lefthash"}

Flood = Callable[[AsyncClient], Awaitable[object]]
FLOODS: dict[str, tuple[int, Flood]] = {
    "one long call": (1, lambda c: c.generate(PROMPT, max_new_tokens=900)),
    "detection, 8 calls": (
        8,
        lambda c: c.detect_watermark(["def f(x): return x\n" * 250] * 256, _GREEN),
    ),
    "256 sampled": (
        1,
        lambda c: c.generate(PROMPT, max_new_tokens=400, do_sample=True, num_return_sequences=256),
    ),
    "256 times 4 beams": (
        1,
        lambda c: c.generate([PROMPT] * 256, max_new_tokens=200, num_beams=4),
    ),
    "contrastive": (
        1,
        lambda c: c.generate(PROMPT, max_new_tokens=900, penalty_alpha=0.6, top_k=128),
    ),
    "1,000 bad words, 4 calls": (
        4,
        lambda c: c.generate(
            PROMPT, max_new_tokens=900, bad_words_ids=[[5 + i] * 15 + [7] for i in range(1000)]
        ),
    ),
}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each load")
    seconds = parser.parse_args().seconds
    for drafted in (False, True):
        with _services(drafted) as target:
            asyncio.run(_measure(target, "with a draft" if drafted else "alone", seconds))


async def _measure(target: Service, name: str, seconds: float) -> None:
    async with AsyncClient(target.address, max_retries=0) as client:
        saturation = await _saturation(client, seconds / 2)
        print(f"{name}: saturation {saturation:.1f} calls/s")
        for times in (1, 4):
            done, health_s = await _beside_health(
                target, _goodput(client, times * saturation, seconds)
            )
            print(
                f"  {times} times: goodput {done / saturation:.2f}, health at most "
                f"{1000 * health_s:.0f} ms, memory {_memory_mib(target.pid):.0f} MiB"
            )
        headers = {"authorization": "Bearer somebody else"}
        async with AsyncClient(target.address, metadata=headers, max_retries=0) as other:
            for flood, (calls, make) in FLOODS.items():
                clean_s, health_s = await _beside_health(
                    target, _beside(client, other, calls, make)
                )
                print(
                    f"  clean caller beside {flood}: {clean_s:.2f} s, health at most "
                    f"{1000 * health_s:.0f} ms, memory {_memory_mib(target.pid):.0f} MiB"
                )


async def _saturation(client: AsyncClient, seconds: float) -> float:
    """Returns the calls per second of as many callers as rows, who never pause."""
    served, until = itertools.count(), time.monotonic() + seconds

    async def caller() -> None:
        while time.monotonic() < until:
            await client.generate(PROMPT, max_new_tokens=NEW_TOKENS)
            next(served)

    await asyncio.gather(*(caller() for _ in range(ROWS)))
    return next(served) / seconds


async def _goodput(client: AsyncClient, calls_per_s: float, seconds: float) -> float:
    """Returns the calls per second that ended within their deadline."""
    served = itertools.count()

    async def call(after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            await client.generate(PROMPT, max_new_tokens=NEW_TOKENS, timeout=DEADLINE_S)
        except ForedraftError:
            return
        next(served)

    began = time.monotonic()
    await asyncio.gather(*(call(i / calls_per_s) for i in range(int(seconds * calls_per_s))))
    return next(served) / (time.monotonic() - began)


async def _beside(client: AsyncClient, other: AsyncClient, calls: int, make: Flood) -> float:
    """Returns the median time of clean calls while others are made."""
    flood = [asyncio.ensure_future(make(other)) for _ in range(calls)]
    await asyncio.sleep(1.0)
    spent = []
    for _ in range(_CLEAN_CALLS):
        began = time.monotonic()
        await client.generate(PROMPT, max_new_tokens=32)
        spent.append(time.monotonic() - began)
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)
    await asyncio.sleep(1.0)
    return median(spent)


async def _beside_health(target: Service, work: Awaitable[float]) -> tuple[float, float]:
    """Returns the result of a piece of work, and the longest answer of health meanwhile."""
    task, longest_s = asyncio.ensure_future(work), 0.0
    async with grpc.aio.insecure_channel(target.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while not task.done():
            began = time.monotonic()
            await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))
            longest_s = max(longest_s, time.monotonic() - began)
            await asyncio.wait({task}, timeout=0.1)
    return await task, longest_s


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextmanager
def _services(drafted: bool) -> Iterator[Service]:
    """Runs a target, and a draft for it if there is to be one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = ["--rows", str(ROWS)]
        if drafted:
            running = service("draft", MODELS / "draft", [1], folder / "draft.log", *flags)
            flags += ["--draft", stack.enter_context(running).address]
        yield stack.enter_context(
            service("target", MODELS / "target", [0], folder / "target.log", *flags)
        )


if __name__ == "__main__":
    main()
