"""A real Prometheus on real services: every panel and record has data, every alert fires and
resolves.

Windows and durations of the rules are a sixtieth of their real ones, which `rules_test.yml` tests.
"""

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from benchmarks.adversary import make_draft
from deploy.monitoring.generate import RULES
from deploy.monitoring.rows import ROWS
from foredraft import metrics
from tests.integration.processes import MODELS, Process, free_port, service, until
from tests.monitoring.traffic import callers, fixed, impatient, long, mixed
from tests.prometheus import Prometheus, prometheus
from tests.tools import find

PATIENCE_S = 180.0


def _hurried(rules: str) -> str:
    """Returns rules in which minutes are seconds and hours are minutes; names stay."""
    return re.sub(
        r"(\[|for: )(\d+)([mh])", lambda m: f"{m[1]}{m[2]}{'s' if m[3] == 'm' else 'm'}", rules
    )


class Stack:
    """A draft, a target, a client's registry, and the Prometheus that watches them."""

    def __init__(self, folder: Path, tool: str, stack: ExitStack) -> None:
        self._folder, self._stack, self._drafting = folder, stack, ExitStack()
        self._port, self.registry = free_port(), CollectorRegistry()
        # One port for whichever draft runs, so that the same target of Prometheus finds it.
        self._metrics = f"127.0.0.1:{free_port()}"
        self.draft(MODELS / "draft")
        flags = (
            "--model",
            str(MODELS / "target"),
            "--draft",
            f"127.0.0.1:{self._port}",
            "--rows",
            "4",
        )
        self.target: Process = stack.enter_context(service("target", folder / "target.log", *flags))
        client = f"127.0.0.1:{metrics.start_server(0, registry=self.registry)}"
        rules = folder / "rules.yml"
        rules.write_text(_hurried(RULES.read_text()))
        jobs = {"target": self.target.metrics_address, "draft": self._metrics, "client": client}
        self.prometheus: Prometheus = stack.enter_context(prometheus(tool, folder, jobs, [rules]))

    def draft(self, model: Path | None) -> None:
        """Starts another draft in place of the one that runs, or none."""
        self._drafting.close()
        if model is not None:
            flags = ("--model", str(model), "--metrics-listen", self._metrics)
            self._drafting.enter_context(
                service("draft", self._folder / "draft.log", *flags, port=self._port)
            )

    def until_firing(self, *names: str) -> None:
        """Waits until all alerts fire."""
        self._until(lambda: set(names) <= self.prometheus.firing(), f"{names} to fire")

    def until_quiet(self, *names: str) -> None:
        """Waits until none of the alerts fires."""
        self._until(lambda: not set(names) & self.prometheus.firing(), f"{names} to resolve")

    def _until(self, condition: Callable[[], bool], wanted: str) -> None:
        until(
            condition,
            PATIENCE_S,
            0.3,
            lambda: f"waited for {wanted}; {self.prometheus.firing()} fire",
        )


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with ExitStack() as stack:
        found = Stack(tmp_path_factory.mktemp("live"), find("prometheus"), stack)
        stack.callback(found.draft, None)
        yield found


def _has_data(server: Prometheus, expression: str) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in server.query(expression))


def test_every_panel_and_every_record_has_data(live: Stack) -> None:
    panels = {
        f"{p.title}: {expression}"
        for _, panels in ROWS
        for p in panels
        for expression, _ in p.queries
    }
    chosen = {p: p.partition(": ")[2].replace("$__rate_interval", "20s") for p in panels}
    wanted = {
        p: re.sub(r"\$(namespace|job)\b", ".*", expression) for p, expression in chosen.items()
    }
    wanted |= {r["name"]: r["name"] for r in live.prometheus.rules() if r["type"] == "recording"}
    with (
        callers(live.target.address, mixed, 2, live.registry),
        callers(live.target.address, impatient, 1, live.registry),
    ):
        deadline = time.monotonic() + PATIENCE_S
        while wanted and time.monotonic() < deadline:
            time.sleep(1)
            wanted = {name: e for name, e in wanted.items() if not _has_data(live.prometheus, e)}
    assert not wanted
    assert {r["health"] for r in live.prometheus.rules()} == {"ok"}


def test_requests_that_run_out_of_time(live: Stack) -> None:
    with callers(live.target.address, impatient):
        live.until_firing("ForedraftRequestsFailing")
    with callers(live.target.address, mixed):
        live.until_quiet("ForedraftRequestsFailing")


@pytest.mark.long
def test_a_draft_that_dies(live: Stack) -> None:
    with callers(live.target.address, fixed):
        live.draft(None)
        live.until_firing("ForedraftDraftDown", "ForedraftFallbackActive")
        live.draft(MODELS / "draft")
        live.until_quiet("ForedraftDraftDown", "ForedraftFallbackActive")


@pytest.mark.long
def test_a_draft_that_knows_nothing(live: Stack, tmp_path: Path) -> None:
    with callers(live.target.address, fixed):
        live.draft(make_draft(tmp_path / "wrong"))
        live.until_firing("ForedraftAcceptanceCollapsed")
        live.draft(MODELS / "draft")
        live.until_quiet("ForedraftAcceptanceCollapsed")


@pytest.mark.long
def test_more_than_is_served(live: Stack) -> None:
    burning = ("ForedraftLatencyObjectiveBurning", "ForedraftLatencyObjectiveBurningFast")
    with ExitStack() as crowd:
        deadline, seen = time.monotonic() + PATIENCE_S, set[str]()
        while not {"ForedraftQueueGrowing", "ForedraftNoRowsFree", *burning} <= seen:
            assert time.monotonic() < deadline, seen
            crowd.enter_context(callers(live.target.address, long))
            time.sleep(0.8)
            seen |= live.prometheus.firing()
    with callers(live.target.address, mixed):
        live.until_quiet("ForedraftQueueGrowing", "ForedraftNoRowsFree", *burning)
