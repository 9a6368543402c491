"""Two targets as processes of their own, of which one is killed in the middle of a call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from foredraft import Client
from tests.integration.processes import MODELS, Process, free_port

PROMPT = "def main("
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": {"do_sample": True, "seed": 7, "num_return_sequences": 2},
}


class Targets:
    """Two targets; a killed one is started again on its port before the next call."""

    def __init__(self, logs: Path) -> None:
        self._ports, self._logs = [free_port(), free_port()], logs
        self._running = [self._start(port) for port in self._ports]

    def _start(self, port: int) -> Process:
        flags = ("--model", str(MODELS / "target"), "--dtype", "float32")
        return Process("target", self._logs / f"{port}.log", port, *flags)

    @property
    def addresses(self) -> list[str]:
        """The addresses; a client's first call goes to the first one."""
        return [process.address for process in self._running]

    def whole(self) -> None:
        """Starts what was killed, and waits until both are ready."""
        for at, process in enumerate(self._running):
            if process.returncode is not None:
                self._running[at] = self._start(self._ports[at])
        for process in self._running:
            process.wait_ready()

    def kill_first(self) -> None:
        """Kills the target that serves the first call of a client."""
        self._running[0].kill()

    def stop(self) -> None:
        """Kills both."""
        for process in self._running:
            process.kill()


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    running = Targets(tmp_path_factory.mktemp("logs"))
    yield running
    running.stop()


@pytest.mark.parametrize("position", ["at the open", "in the middle", "near the end"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_goes_on_at_another_target(targets: Targets, name: str, position: str) -> None:
    # Rounds are compared as well, and depend on the time of steps where tokens are looked up.
    fields: dict[str, Any] = {
        "max_new_tokens": 200,
        "min_new_tokens": 200,
        "num_assistant_tokens": 0,
        **CALLS[name],
    }
    targets.whole()
    with Client(targets.addresses, registry=CollectorRegistry()) as client:
        whole = _results(client.generate(PROMPT, **fields))
    expected = sum(len(result.token_ids) for result in whole)
    kill_at = {"at the open": 1, "in the middle": expected // 2, "near the end": expected - 30}
    # A caller that is held up sees a chunk when the rest has come as well.
    for _ in range(20):
        pieces, results = _killed(targets, fields, kill_at[position])
        assert pieces == [result.text for result in results]
        assert [_said(result) for result in results] == [_said(result) for result in whole]
        if any(result.stats.resumed for result in results):
            return
        targets.whole()
    raise AssertionError("no call was lost")


def _killed(targets: Targets, fields: dict[str, Any], at: int) -> tuple[list[str], list[Any]]:
    """Kills the target of a call at its token number `at`; returns what came, and the results."""
    pieces = [""] * fields.get("num_return_sequences", 1)
    tokens, killed = 0, False
    with (
        Client(targets.addresses, registry=CollectorRegistry()) as client,
        client.stream(PROMPT, **fields, resume=True) as stream,
    ):
        for chunk in stream:
            tokens += len(chunk.token_ids)
            pieces[chunk.sequence_index] += chunk.text
            if tokens >= at and not killed:
                targets.kill_first()
                killed = True
    return pieces, _results(stream.result)


def _results(result: Any) -> list[Any]:
    return result if isinstance(result, list) else [result]


def _said(result: Any) -> tuple[Any, ...]:
    stats = result.stats
    return (result.text, result.token_ids, result.finish_reason, result.prompt_tokens, stats.rounds)
