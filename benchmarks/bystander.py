"""A caller beside a load, in a process of its own, so that no delay of those who make the load is
taken for one of the service.

It asks for health all the time, and makes small calls one after another. This module knows nothing
of what the load is.
"""

import argparse
import asyncio
import math
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.floods import PROMPT
from benchmarks.worker import Worker, serve
from foredraft import AsyncClient, ForedraftError

_EVERY_S = 0.02
_PATIENCE_S = 60.0
_NEW_TOKENS = 32
_LIVENESS = health_pb2.HealthCheckRequest(service="liveness")


@dataclass(frozen=True, slots=True)
class Felt:
    """What a bystander felt.

    Attributes:
        calls_s: the time of each of its calls; infinite for one that failed.
        health_s: the longest answer of health.
    """

    calls_s: Sequence[float]
    health_s: float


class Bystander:
    """The process, from outside."""

    def __init__(self, log: Path, cores: Sequence[int], target: str, *healths: str) -> None:
        """Starts it.

        Args:
            target: the address of the target, which it calls.
            healths: the addresses of which it asks for health.
        """
        self._worker = Worker("benchmarks.bystander", cores, log, target, *healths)

    def __enter__(self) -> "Bystander":
        self._worker.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._worker.__exit__(*error)

    async def feels(
        self, calls: int, after_s: float = 0.0, patience_s: float = _PATIENCE_S
    ) -> Felt:
        """Returns what it feels from now until it has made some calls.

        Args:
            calls: how many; they come one after another.
            after_s: when the first of them comes.
            patience_s: how long it waits for each of them.
        """
        job = {"calls": calls, "after_s": after_s, "patience_s": patience_s}
        return Felt(**await asyncio.to_thread(self._worker.ask, **job))


class _Inside:
    """The process, from inside."""

    def __init__(self, target: str, healths: Sequence[str]) -> None:
        channels = [grpc.aio.insecure_channel(address) for address in healths]
        self._healths = [health_pb2_grpc.HealthStub(channel) for channel in channels]
        self._client = AsyncClient(target, max_retries=0)

    async def feel(self, calls: int, after_s: float, patience_s: float) -> dict[str, Any]:
        over = asyncio.Event()
        watches = [asyncio.create_task(_longest_s(health, over)) for health in self._healths]
        await asyncio.sleep(after_s)
        calls_s = [
            await _seconds(
                self._client.generate(PROMPT, max_new_tokens=_NEW_TOKENS, timeout=patience_s)
            )
            for _ in range(calls)
        ]
        over.set()
        return {"calls_s": calls_s, "health_s": max(await asyncio.gather(*watches))}


async def _longest_s(health: Any, over: asyncio.Event) -> float:
    """Asks for health until it is over; returns the longest time of an answer."""
    longest_s = 0.0
    while not over.is_set():
        spent_s = await _seconds(health.Check(_LIVENESS, timeout=_PATIENCE_S))
        longest_s = max(longest_s, spent_s)
        await asyncio.sleep(max(0.0, _EVERY_S - spent_s))
    return longest_s


async def _seconds(answer: Awaitable[object]) -> float:
    """Returns the time of an answer; infinite, with a line in the log, if it is an error."""
    began = time.monotonic()
    try:
        await answer
    except (ForedraftError, grpc.aio.AioRpcError) as error:
        print(f"a bystander's call failed: {error}", flush=True)
        return math.inf
    return time.monotonic() - began


def main() -> None:
    """Answers jobs with what this process feels."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("target")
    parser.add_argument("healths", nargs="+")
    parser.add_argument("--threads", type=int, help="is given to all workers; this one has one")
    told = parser.parse_args()
    with asyncio.Runner() as runner:

        async def made() -> _Inside:
            return _Inside(told.target, told.healths)

        inside = runner.run(made())
        serve(lambda job: runner.run(inside.feel(**job)))


if __name__ == "__main__":
    main()
