"""Fixtures, and the lines that measuring tests add to the summary."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from tests.tools import find

# Tests kill drafts by the dozen, and gRPC would tell of each.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# The hub's library reads these while it is imported.
os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
# One thread: the tests' models are small, and two services share the machine.
torch.set_num_threads(1)

# A machine that is busy takes long for any example.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

_MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Several processes share the tests by their names.
        assert " at 0x" not in item.nodeid, f"the name of a test changes: {item.nodeid}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist hands its lines to the process that prints.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = session.config.stash[_MEASURED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_MEASURED].extend(getattr(node, "workeroutput", {}).get("measured", ()))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[_MEASURED]:
        terminalreporter.section("measured")
        for line in config.stash[_MEASURED]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Returns a function that adds a line to the summary of the run."""
    return pytestconfig.stash[_MEASURED].append


@pytest.fixture
def tool(request: pytest.FixtureRequest) -> str:
    """The path of the program that the test's `tool` marker names."""
    name: str = request.node.get_closest_marker("tool").args[0]
    return find(name)


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """The beginnings of held-out modules."""
    file = Path(__file__).resolve().parent.parent / "demo" / "prompts.json"
    return [entry["text"] for entry in json.loads(file.read_text())]
