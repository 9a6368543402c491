"""Faults of drafts as processes of their own, and of the link to them, at three places each."""

import asyncio
import http.server
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from foredraft import AsyncClient, UnavailableError
from tests.faults.link import Link
from tests.faults.table import FaultTable, Outcome
from tests.integration.processes import MODELS, Process, free_port, service
from tests.premises import begins_again, in_time

PROMPT = "def main("
TOKENS = 120
FIELDS: dict[str, Any] = {
    "max_new_tokens": TOKENS,
    "min_new_tokens": TOKENS,
    "num_assistant_tokens": 4,
}
RULES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": {"do_sample": True, "seed": 11},
    "rejection": {"do_sample": True, "seed": 11, "sampling_rule": "rejection"},
}
PLACES = {"at the open": 0, "in the middle": TOKENS // 2, "near the end": TOKENS - 15}


class Net:
    """A draft, the link to it, the target that uses it, and a server of another kind."""

    def __init__(self, logs: Path) -> None:
        self._logs, self._port = logs, free_port()
        self.draft = self.start_draft()
        self.draft.wait_ready()
        self.link = Link(self.draft.address)
        self._web = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
        )
        self._serving = threading.Thread(target=self._web.serve_forever, daemon=True)
        self._serving.start()
        flags = ("--model", str(MODELS / "target"), "--draft", self.link.address)
        log, port = logs / "target.log", free_port()
        self.target = Process("target", log, port, *flags, "--draft-timeout", "0.2")
        self.target.wait_ready()

    @property
    def web_address(self) -> str:
        """The address of an HTTP server, which is no draft."""
        return f"127.0.0.1:{self._web.server_address[1]}"

    def start_draft(self) -> Process:
        """Starts the draft, on the same port each time."""
        return Process(
            "draft", self._logs / "draft.log", self._port, "--model", str(MODELS / "draft")
        )

    def restart_draft(self) -> None:
        """Kills the draft and starts it again."""
        self.draft.kill()
        self.draft = self.start_draft()

    def lead_to(self, address: str) -> None:
        """Leads the target's connections to an address from now on."""
        self.link.to = address
        self.link.cut()

    def heal(self) -> None:
        """Takes every fault away."""
        self.link.delay_s, self.link.refuses = 0.0, False
        self.link.release()
        if self.link.to != self.draft.address:
            self.lead_to(self.draft.address)
        if self.draft.returncode is not None:
            self.draft = self.start_draft()
        self.draft.send_signal(signal.SIGCONT)
        self.draft.wait_ready()

    def close(self) -> None:
        """Ends everything."""
        self.link.close()
        self.draft.kill()
        self.target.kill()
        self._web.shutdown()
        self._web.server_close()


def _slow(net: Net) -> None:
    net.link.delay_s = 0.15


def _holding(net: Net) -> None:
    net.link.hold()


def _cut(net: Net) -> None:
    net.link.refuses = True
    net.link.cut()


FAULTS: dict[str, Callable[[Net], None]] = {
    "draft killed": lambda net: net.draft.kill(),
    "draft frozen": lambda net: net.draft.send_signal(signal.SIGSTOP),
    "draft restarted": lambda net: net.restart_draft(),
    "link slow": _slow,
    "network gone for a while": _holding,
    "link cut": _cut,
    "link broken off once": lambda net: net.link.cut(),
    "link half-closed": lambda net: net.link.half_close(),
    "address of the target itself": lambda net: net.lead_to(net.target.address),
    "address of an HTTP server": lambda net: net.lead_to(net.web_address),
}
# What is no draft is asked again after 15 seconds.
SLOW = ("address of the target itself", "address of an HTTP server")
SHORT = ("draft killed", "draft frozen", "link cut")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    running = Net(tmp_path_factory.mktemp("logs"))
    yield running
    running.close()


@pytest.fixture
async def client(net: Net) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(net.target.address, registry=CollectorRegistry()) as client:
        yield client


@pytest.fixture(scope="module")
def texts() -> dict[str, tuple[int, ...]]:
    """The texts without a fault, filled by the first test."""
    return {}


@pytest.mark.parametrize(
    "name", [n if n in SHORT else pytest.param(n, marks=pytest.mark.long) for n in FAULTS]
)
@begins_again
async def test_a_fault_of_the_draft_costs_speed_only(
    name: str,
    net: Net,
    client: AsyncClient,
    texts: dict[str, tuple[int, ...]],
    fault_table: FaultTable,
) -> None:
    await until_used(client)
    for rule, sampling in RULES.items():
        if rule not in texts:
            texts[rule] = (await client.generate(PROMPT, **FIELDS, **sampling)).token_ids
    outcome = Outcome(name)
    met = zip(PLACES, RULES, strict=True) if name in SLOW else product(PLACES, RULES)
    for place, rule in met:
        expected = None if rule == "rejection" else texts[rule]
        at = once(PLACES[place], lambda: FAULTS[name](net))
        await outcome.call(client, PROMPT, expected, at, **FIELDS, **RULES[rule])
        await asyncio.to_thread(net.heal)
        began = time.perf_counter()
        await until_used(client)
        outcome.recovered(began)
    fault_table.add(outcome)
    assert outcome.holds, outcome.failed
    in_time(outcome.stall_s < 5.0, outcome)


def once(tokens: int, happen: Callable[[], None]) -> Callable[[int], None]:
    """Returns a function of the tokens that came, which lets something happen once."""
    happened: list[bool] = []

    def at(came: int) -> None:
        if came >= tokens and not happened:
            happened.append(True)
            happen()

    return at


async def _until_refused(client: AsyncClient) -> None:
    """Waits until a signal has reached the target, which takes new calls until then."""
    for _ in range(1000):
        try:
            await client.generate(PROMPT, max_new_tokens=1)
        except UnavailableError:
            return
    raise AssertionError("it takes new calls")


async def until_used(client: AsyncClient) -> None:
    """Waits until the draft model's tokens are accepted."""
    for _ in range(600):
        result = await client.generate(PROMPT, max_new_tokens=40, num_assistant_tokens=4)
        if "model" in result.stats.drafter:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the draft is not used again")


async def test_one_of_two_drafts_is_dead(net: Net, tmp_path: Path, fault_table: FaultTable) -> None:
    drafts = f"127.0.0.1:{free_port()},{net.draft.address}"
    flags = ("--model", str(MODELS / "target"), "--draft", drafts)
    outcome = Outcome("two drafts, one dead")
    with service("target", tmp_path / "target.log", *flags) as target:
        async with AsyncClient(target.address, registry=CollectorRegistry()) as client:
            await until_used(client)
            for rule, sampling in RULES.items():
                whole = await client.generate(
                    PROMPT, **{**FIELDS, "num_assistant_tokens": 0}, **sampling
                )
                expected = None if rule == "rejection" else whole.token_ids
                for _ in range(3):
                    await outcome.call(client, PROMPT, expected, **FIELDS, **sampling)
            await until_used(client)
    fault_table.add(outcome)
    assert outcome.holds, outcome.failed


async def test_a_target_that_is_stopped_under_load_ends_what_runs(
    tmp_path: Path, net: Net, fault_table: FaultTable
) -> None:
    flags = ("--model", str(MODELS / "target"), "--draft", net.draft.address)
    outcome = Outcome("target stopped under load (SIGTERM)")
    with service("target", tmp_path / "target.log", *flags) as target:
        async with AsyncClient(target.address, registry=CollectorRegistry()) as client:
            whole = await client.generate(PROMPT, **FIELDS)
            began = [asyncio.Event() for _ in range(6)]
            running = [
                asyncio.create_task(
                    outcome.call(client, PROMPT, whole.token_ids, once(1, event.set), **FIELDS)
                )
                for event in began
            ]
            await asyncio.gather(*(event.wait() for event in began))
            target.send_signal(signal.SIGTERM)
            await _until_refused(client)
            await asyncio.gather(*running)
        assert await asyncio.to_thread(target.wait) == 0
    fault_table.add(outcome)
    assert outcome.holds, outcome.failed
