"""A target under more load than it can serve: goodput at one and four times saturation, with and
without a draft, and what a clean caller feels beside floods of dear calls.

    python -m benchmarks.overload [--seconds 40]

Saturation is what as many callers as rows, who never pause, are served. They begin one after
another: in step with each other they would be a tenth faster than callers ever are. The load of
calls comes by a clock, whether the earlier ones are served or not, and each has a deadline. Beside
each flood the time of a clean call is told as a multiple of that beside a well-behaved neighbour.
"""

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.bystander import Bystander, Felt
from benchmarks.floods import FLOODS, NEIGHBOUR, PROMPT, flood
from benchmarks.memory import peak_bytes, reset_peak
from benchmarks.services import Service, service
from foredraft import AsyncClient, ForedraftError

MODELS = Path(__file__).resolve().parent.parent / "demo" / "models"
ROWS, NEW_TOKENS, DEADLINE_S = 16, 64, 10.0
_CLEAN_CALLS = 5
_BEGINNING_S = 2.0  # in which the callers of saturation begin
# A flood needs a while to arrive, and what it leaves behind needs one to end.
_ARRIVAL_S, _REST_S = 1.5, 2.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, and who feels it."""

    target: Service
    draft: Service
    bystander: Bystander


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each load")
    seconds = parser.parse_args().seconds
    for drafted in (False, True):
        with _setup(drafted) as setup:
            print("with a draft" if drafted else "alone", flush=True)
            asyncio.run(_measure(setup, seconds))


async def _measure(setup: Setup, seconds: float) -> None:
    alone = await setup.bystander.feels(calls=_CLEAN_CALLS)
    _tell("a clean caller alone", setup.target, alone)
    async with AsyncClient(setup.target.address, max_retries=0) as client:
        saturation = await _saturation(client, seconds / 2)
        print(f"  saturation: {saturation:.1f} calls/s", flush=True)
        for times in (1, 4):
            reset_peak(setup.target.pid)
            felt = asyncio.create_task(setup.bystander.feels(calls=0, after_s=seconds))
            done = await _goodput(client, times * saturation, seconds)
            _tell(f"{times} times: goodput {done / saturation:.2f}", setup.target, await felt)
    neighbour_s = 0.0
    for name in FLOODS:
        reset_peak(setup.target.pid)
        felt = asyncio.create_task(setup.bystander.feels(_CLEAN_CALLS, _ARRIVAL_S))
        async with flood(name, setup.target.address, setup.draft.address):
            beside = await felt
        if name == NEIGHBOUR:
            neighbour_s = median(beside.calls_s)
        ratio = median(beside.calls_s) / neighbour_s
        _tell(f"beside {name}: {ratio:.1f} times", setup.target, beside)
        await asyncio.sleep(_REST_S)


def _tell(what: str, target: Service, felt: Felt) -> None:
    calls = ""
    if felt.calls_s:  # the median says nothing of a single one that was starved
        calls = f"a clean call {median(felt.calls_s):.2f} s, at most {max(felt.calls_s):.2f} s, "
    print(
        f"  {what}; {calls}health at most {1000 * felt.health_s:.0f} ms, "
        f"memory at most {peak_bytes(target.pid) / 2**20:.0f} MiB",
        flush=True,
    )


async def _saturation(client: AsyncClient, seconds: float) -> float:
    """Returns the calls per second of as many callers as rows, who never pause."""
    served, since = itertools.count(), time.monotonic() + _BEGINNING_S
    until = since + seconds

    async def caller(after_s: float) -> None:
        await asyncio.sleep(after_s)
        while time.monotonic() < until:
            await client.generate(PROMPT, max_new_tokens=NEW_TOKENS)
            if since < time.monotonic() < until:
                next(served)

    await asyncio.gather(*(caller(i * _BEGINNING_S / ROWS) for i in range(ROWS)))
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


@contextmanager
def _setup(drafted: bool) -> Iterator[Setup]:
    """Runs a target, a draft, which the target has if it is to have one, and the bystander."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = ["--rows", str(ROWS)]
        running = service("draft", MODELS / "draft", [1], folder / "draft.log", *flags)
        draft = stack.enter_context(running)
        flags += ["--draft", draft.address] if drafted else []
        running = service("target", MODELS / "target", [0], folder / "target.log", *flags)
        target = stack.enter_context(running)
        healths = (target.health_address, draft.health_address)
        bystander = Bystander(folder / "bystander.log", _all_cores(), target.address, *healths)
        yield Setup(target, draft, stack.enter_context(bystander))


def _all_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
