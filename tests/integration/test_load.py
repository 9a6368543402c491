"""Nobody breaks anybody: beside every flood of dear calls a clean caller is served and health
answers, and when the flood is over, nothing of it is left.
"""

import asyncio
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from benchmarks.bystander import Bystander, Felt
from benchmarks.floods import FLOODS, NEIGHBOUR, flood
from tests.integration.processes import MODELS, PATIENCE_S, Process, service, until

OTHERS = [name for name in FLOODS if name != NEIGHBOUR]
ROWS, CALLS = "8", 3
# A flood needs a while to arrive.
_ARRIVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Bars:
    """What a flood may do to others.

    Attributes:
        times: a clean call next to one beside a well-behaved neighbour.
        call_s: the longest clean call.
        health_s: the longest answer of health.
    """

    times: float
    call_s: float
    health_s: float


# The processes of a test share two slow cores with the flood and with each other.
LENIENT = Bars(times=5.0, call_s=5.0, health_s=1.0)
ISSUED = Bars(times=3.0, call_s=5.0, health_s=0.05)


@dataclass(frozen=True, slots=True)
class Site:
    """Both services, and who stands beside."""

    target: Process
    draft: Process
    bystander: Bystander

    async def beside(self, name: str, patience_s: float) -> Felt:
        """Returns what is felt from the beginning of a flood until some calls were served."""
        felt = asyncio.create_task(self.bystander.feels(CALLS, _ARRIVAL_S, patience_s))
        async with flood(name, self.target.address, self.draft.address):
            return await felt

    def is_left_alone(self) -> bool:
        """Whether no row is held or waited for."""
        held = ("foredraft_rows_in_use", "foredraft_num_requests_waiting")
        return not any(_gauge(p, name) for p in (self.target, self.draft) for name in held)


def _gauge(process: Process, name: str) -> float:
    with urllib.request.urlopen(f"http://{process.metrics_address}/metrics") as page:
        lines = page.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@contextmanager
def _site(model: str, folder: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        draft = stack.enter_context(service("draft", folder / "draft.log", "--ngram", "only"))
        flags = (
            "--model",
            str(MODELS / model),
            "--draft",
            draft.address,
            "--rows",
            ROWS,
            "--send-timeout",
            "3",
        )
        target = stack.enter_context(service("target", folder / "target.log", *flags))
        cores = sorted(os.sched_getaffinity(0))
        bystander = Bystander(folder / "bystander.log", cores, target.address, draft.address)
        yield Site(target, draft, stack.enter_context(bystander))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with _site("draft", tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def neighbour_s(site: Site) -> float:
    """The time of a clean call beside a well-behaved neighbour."""
    asyncio.run(site.bystander.feels(calls=CALLS))  # whose first call connects
    return median(asyncio.run(site.beside(NEIGHBOUR, PATIENCE_S)).calls_s)


@pytest.mark.parametrize("name", OTHERS)
async def test_a_flood_costs_nobody_else(
    name: str, site: Site, neighbour_s: float, measured: Callable[[str], None]
) -> None:
    felt = await site.beside(name, LENIENT.call_s)
    measured(f"{name}: {felt}, neighbour {neighbour_s}")
    assert median(felt.calls_s) < LENIENT.times * neighbour_s
    assert max(felt.calls_s) < LENIENT.call_s
    assert felt.health_s < LENIENT.health_s
    until(site.is_left_alone, 20.0)
