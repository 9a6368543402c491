"""Nobody breaks anybody: beside every flood of dear calls a clean caller is served and health
answers, and when the flood is over, nothing of it is left.

A flood that is added to `benchmarks.floods` is tested here by itself.
"""

import asyncio
import math
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from benchmarks.bystander import Bystander, Felt
from benchmarks.floods import FLOODS, NEIGHBOUR, UNREAD, flood
from benchmarks.memory import peak_bytes, reset_peak
from tests.integration.processes import MODELS, PATIENCE_S, Process, free_port, service, until
from tests.premises import begins_again, in_time

SEND_TIMEOUT_S = 2.0
_ARRIVAL_S = 1.0  # a flood needs a while


@dataclass(frozen=True, slots=True)
class Site:
    """Both services, and who stands beside."""

    target: Process
    draft: Process
    bystander: Bystander

    async def beside(self, name: str, patience_s: float = PATIENCE_S, calls: int = 3) -> Felt:
        """Returns what is felt from the beginning of a flood until some calls were served."""
        felt = asyncio.create_task(self.bystander.feels(calls, _ARRIVAL_S, patience_s))
        async with flood(name, self.target.address, self.draft.address):
            return await felt

    def is_quiet(self) -> bool:
        """Whether nobody holds a row or waits for one."""
        gauges = ("foredraft_rows_in_use", "foredraft_num_requests_waiting")
        return not any(_value(p, name) for p in (self.target, self.draft) for name in gauges)


def _value(process: Process, name: str) -> float:
    with urllib.request.urlopen(f"http://{process.metrics_address}/metrics") as page:
        lines = page.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@contextmanager
def site(model: str, folder: Path, *flags: str) -> Iterator[Site]:
    """Runs a target with a draft, and a bystander."""
    with ExitStack() as stack:
        healths = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        alone = ("--ngram", "only", "--health-listen", healths[0])
        draft = stack.enter_context(service("draft", folder / "draft.log", *alone))
        flags = ("--model", str(MODELS / model), "--draft", draft.address, "--rows", "8", *flags)
        flags += ("--health-listen", healths[1])
        target = stack.enter_context(service("target", folder / "target.log", *flags))
        cores = sorted(os.sched_getaffinity(0))
        bystander = Bystander(folder / "bystander.log", cores, target.address, *healths)
        yield Site(target, draft, stack.enter_context(bystander))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    flags = ("--send-timeout", f"{SEND_TIMEOUT_S}")
    with site("draft", tmp_path_factory.mktemp("small"), *flags) as running:
        yield running


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site("target", tmp_path_factory.mktemp("large")) as running:
        yield running


def _neighbour_s(running: Site) -> float:
    """Returns the time of a clean call beside a well-behaved neighbour.

    The first calls are slower, until the target knows how far it pays to speculate.
    """
    asyncio.run(running.beside(NEIGHBOUR, calls=12))
    return median(asyncio.run(running.beside(NEIGHBOUR, calls=9)).calls_s)


@pytest.fixture(scope="module")
def small_neighbour_s(small: Site) -> float:
    return _neighbour_s(small)


@pytest.fixture(scope="module")
def large_neighbour_s(large: Site) -> float:
    return _neighbour_s(large)


FLOOD_NAMES = [name for name in FLOODS if name != NEIGHBOUR]


@pytest.mark.parametrize("name", FLOOD_NAMES)
@begins_again
async def test_a_flood_starves_nobody(
    name: str, small: Site, small_neighbour_s: float, measured: Callable[[str], None]
) -> None:
    """The bounds are wide: flood, services and bystander share two slow cores with other tests."""
    felt = await small.beside(name, patience_s=30.0)
    measured(f"{_told(name, felt)}; beside a neighbour {small_neighbour_s:.2f} s")
    held_s = SEND_TIMEOUT_S if name == UNREAD else 0.0
    assert max(felt.calls_s) < math.inf
    until(small.is_quiet)
    in_time(median(felt.calls_s) < 5 * small_neighbour_s + 1.0 + held_s, felt)
    in_time(felt.health_s < 2.0, felt)


@pytest.mark.quiet
@pytest.mark.long
@pytest.mark.parametrize("name", FLOOD_NAMES)
async def test_a_flood_is_hardly_felt(
    name: str, large: Site, large_neighbour_s: float, measured: Callable[[str], None]
) -> None:
    """The bars of a release, on a machine that does nothing else."""
    felt = await large.beside(name, patience_s=10.0)
    measured(f"{_told(name, felt)}, {median(felt.calls_s) / large_neighbour_s:.1f} times")
    assert median(felt.calls_s) <= 3 * large_neighbour_s
    assert max(felt.calls_s) < math.inf
    assert felt.health_s <= 0.05
    until(large.is_quiet, 40.0)


@pytest.mark.quiet
@pytest.mark.long
async def test_large_calls_take_little_more_than_their_messages(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    with site("draft", tmp_path) as fresh:
        await fresh.beside(NEIGHBOUR)
        before = peak_bytes(fresh.target.pid)
        reset_peak(fresh.target.pid)
        await fresh.beside("24 calls of 8 MB of text", patience_s=5.0)
        grown = peak_bytes(fresh.target.pid) - before
    measured(f"24 calls of 8 MB: {grown / 2**20:.0f} MiB more")
    # Before a message can be refused, gRPC has it and then its bytes. What is let in takes more,
    # and is bounded by --max-waiting-bytes.
    assert grown < 2 * 24 * 8_000_000


def _told(name: str, felt: Felt) -> str:
    calls = ", ".join(f"{seconds:.2f}" for seconds in felt.calls_s)
    return f"beside {name}: clean calls of {calls} s, health within {1000 * felt.health_s:.0f} ms"
