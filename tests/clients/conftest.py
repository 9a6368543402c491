"""Two targets of the bundled model, which has a chat template here, behind one gateway."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from foredraft import Client
from tests.chat_templates import QWEN3
from tests.clients.services import Target, gateway, target, until, with_template


@dataclass(frozen=True)
class Served:
    """What a test calls."""

    url: str
    model: str
    targets: tuple[Target, ...]
    sdk: Client
    """A client of the first target."""

    def call(self, **more: Any) -> dict[str, Any]:
        """Returns what names the model in a call of the OpenAI API, greedy unless it says more."""
        return {"model": self.model, "max_tokens": 12, "temperature": 0, **more}

    def value(self, name: str) -> float:
        """Returns the sum of a metric of all targets."""
        return sum(one.value(name) for one in self.targets)

    def at_rest(self) -> None:
        """Waits until no row is held."""
        until(lambda: self.value("foredraft_rows_in_use") == 0)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two targets with two rows each, where two calls may wait."""
    logs, folder = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("model")
    model, flags = with_template(folder, QWEN3), ("--rows", "2", "--max-waiting", "2")
    with ExitStack() as stack:
        targets = tuple(
            stack.enter_context(target(model, Path(logs / f"target-{i}.log"), *flags))
            for i in range(2)
        )
        sdk = stack.enter_context(Client(targets[0].address))
        for one in targets:
            with Client(one.address) as client:
                client.wait_until_ready(240)
        url = stack.enter_context(gateway(logs / "gateway.log", *(t.address for t in targets)))
        yield Served(url, str(model), targets, sdk)
