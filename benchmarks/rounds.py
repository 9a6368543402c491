"""Measures what a round of a target takes above its forward pass: tokens streamed to one and to
sixteen clients against bare passes over as many rows, of the context in the middle, on the same
cores. Linux.

    make bench-rounds
    make bench-rounds ARGS='--target DIRECTORY --streams 1 8 16'

Nothing is drafted. Bare passes and rounds take turns, so that both see the same minutes of the
machine. The clients are one process, which has nowhere else to be than on the same cores: what
they compute is told as well. Prompts are read before, so that decoding alone is measured.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arena import CORES, MODELS
from benchmarks.report import grid
from benchmarks.services import Service, service
from benchmarks.worker import ROOT, Worker
from foredraft import AsyncClient

_DTYPES = ("float32", "bfloat16")
_PROMPT, _NEW = 96, 64  # tokens
_PARTS = ("forward", "verification", "waiting")


@dataclass(frozen=True, slots=True)
class Run:
    """The mean of one run of rounds, in milliseconds a round."""

    bare_ms: float
    round_ms: float
    parts_ms: tuple[float, ...]
    """What the service's metrics say, in the order of `_PARTS`."""
    clients_ms: float
    """The time that the clients' process had of the cores."""


class Bench:
    """A target, and bare passes of its model."""

    def __init__(self, target: Service, worker: Worker) -> None:
        self._target, self._worker = target, worker

    async def runs(self, streams: int, repetitions: int) -> list[Run]:
        """Returns the runs at a number of streams, after one in which the prompts are read."""
        async with AsyncClient(self._target.address, timeout=120) as client:
            await asyncio.gather(*(_round_s(client, i) for i in range(streams)))
            return [await self._run(client, streams) for _ in range(repetitions)]

    async def _run(self, client: AsyncClient, streams: int) -> Run:
        middle = _PROMPT + _NEW // 2
        bare = self._worker.ask(rows=streams, length=middle, width=1, repetitions=_NEW)
        all_decode = asyncio.Barrier(streams + 1)
        rounds = asyncio.gather(*(_round_s(client, i, all_decode) for i in range(streams)))
        await all_decode.wait()
        before, computed_s = self._target.counters(), time.process_time()
        rounds_s = await rounds
        computed_s = time.process_time() - computed_s
        grown = self._target.counters() - before
        return Run(
            1e3 * statistics.mean(bare["times_s"]),
            1e3 * statistics.mean(rounds_s),
            tuple(1e3 * grown.mean_s("step", part) for part in _PARTS),
            1e3 * computed_s / _NEW,
        )


async def _round_s(
    client: AsyncClient, prompt: int, all_decode: asyncio.Barrier | None = None
) -> float:
    """Streams a text, and returns the mean seconds between its tokens.

    Args:
        all_decode: is waited for after the second token. The metrics of the first step, which may
            move after its token was sent, tell of the wait for a call.
    """
    ids = [1000 + (37 * prompt + 11 * i) % 20000 for i in range(_PROMPT)]
    fields: Any = {"max_new_tokens": _NEW, "eos_token_id": [], "num_assistant_tokens": 0}
    times_s: list[float] = []
    async for _ in client.stream(ids, **fields):
        times_s.append(time.perf_counter())
        if all_decode and len(times_s) == 2:
            await all_decode.wait()
    return (times_s[-1] - times_s[0]) / (len(times_s) - 1)


def _cells(dtype: str, streams: int, runs: Sequence[Run]) -> tuple[str, ...]:
    ratios = [run.round_ms / run.bare_ms for run in runs]
    parts = [statistics.median(run.parts_ms[i] for run in runs) for i in range(len(_PARTS))]
    return (
        dtype,
        str(streams),
        f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{statistics.median(run.bare_ms for run in runs):.1f}",
        f"{statistics.median(run.round_ms for run in runs):.1f}",
        *(f"{part:.1f}" for part in parts),
        f"{statistics.median(run.round_ms - sum(run.parts_ms) for run in runs):.1f}",
        f"{statistics.median(run.clients_ms for run in runs):.1f}",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure rounds against bare forward passes.")
    parser.add_argument("--quick", action="store_true", help="a short form: that everything runs")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each kind")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--dtypes", nargs="+", choices=_DTYPES, default=_DTYPES)
    parser.add_argument(
        "--target", type=Path, default=MODELS / "target", help="the target model's directory"
    )
    parser.add_argument(
        "--threads", type=int, default=len(CORES), help="torch threads of service and bare passes"
    )
    return parser.parse_args()


def main() -> int:
    """Measures all numbers of streams and prints a table; returns the exit code."""
    args = _arguments()
    log = ROOT / "build" / "benchmarks" / "rounds.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = f"make bench-rounds ARGS='{' '.join(sys.argv[1:])}'"
    print(grid(("", ""), list(machine.describe(command).items())), flush=True)
    header = ("dtype", "streams", "round : bare", "bare", "round", *_PARTS, "rest", "clients")
    print("\n" + grid(header, []), flush=True)
    size = ("--rows", str(max(args.streams)), "--threads", str(args.threads))
    for dtype in args.dtypes:
        typed, model = ("--dtype", dtype), ("--model", str(args.target))
        cores = CORES[: args.threads]
        with (
            service("target", args.target, CORES, log, *typed, *size) as target,
            Worker("benchmarks.bare", cores, log, *model, *typed) as worker,
        ):
            bench = Bench(target, worker)
            for streams in args.streams:
                runs = asyncio.run(bench.runs(streams, 1 if args.quick else args.repetitions))
                print(grid(header, [_cells(dtype, streams, runs)]).splitlines()[-1], flush=True)
    print("\nMilliseconds; the ratio is the median (least to most). Parts are the service's own.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
