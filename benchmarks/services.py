"""The two services as an operator starts them, each on cores of its own, and their metrics as
numbers.

This module knows nothing of what is asked of them.
"""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.worker import start

_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    address: str
    metrics_address: str
    health_address: str
    pid: int = 0

    def counters(self) -> "Counters":
        """Returns what the service's metrics say now."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics") as page:
            lines = [
                line.rsplit(" ", 1)
                for line in page.read().decode().splitlines()
                if not line.startswith("#")
            ]
        return Counters({name.removeprefix("foredraft_"): float(value) for name, value in lines})


@dataclass(frozen=True, slots=True)
class Counters:
    """Metrics at one moment, or their growth between two, by name and labels as scraped."""

    values: dict[str, float]

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(
            {name: value - other.values.get(name, 0.0) for name, value in self.values.items()}
        )

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            {name: value + other.values.get(name, 0.0) for name, value in self.values.items()}
        )

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def seconds(self, name: str, part: str = "") -> float:
        """Returns the sum of a histogram of seconds."""
        labels = f'{{part="{part}"}}' if part else ""
        return self.values[f"{name}_seconds_sum{labels}"]

    def mean_s(self, name: str, part: str = "") -> float:
        """Returns the mean of a histogram of seconds; 0 if nothing was observed."""
        count = self.values[f"{name}_seconds_count" + (f'{{part="{part}"}}' if part else "")]
        return self.seconds(name, part) / count if count else 0.0


@contextmanager
def service(
    kind: str, model: Path, cores: Sequence[int], log: Path, *flags: str, step_ms: float = 0.0
) -> Iterator[Service]:
    """Runs a service for the time of the context.

    Args:
        kind: "draft" or "target".
        step_ms: the time of an emulated step, see `benchmarks.emulated`; None computes as fast as
            it can.
    """
    own, metrics, health = (f"127.0.0.1:{free_port()}" for _ in range(3))
    running = Service(own, metrics, health)
    command = (
        ["-m", "benchmarks.emulated", kind, f"{step_ms}"] if step_ms else ["-m", f"{kind}_service"]
    )
    command += ["--model", str(model), "--threads", str(len(cores))]
    command += ["--listen", running.address, "--metrics-listen", running.metrics_address]
    # Speed is what is measured, whatever was compiled here before.
    command += ["--health-listen", running.health_address, "--compile", "on", *flags]
    process = start(command, cores, log)
    try:
        _wait(process, running.address, log)
        yield replace(running, pid=process.pid)
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[str]", address: str, log: Path) -> None:
    """Waits until the service's health says SERVING."""
    deadline = time.monotonic() + _PATIENCE_S
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            with suppress(grpc.RpcError):
                if (
                    stub.Check(health_pb2.HealthCheckRequest()).status
                    == health_pb2.HealthCheckResponse.SERVING
                ):
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a service did not come up:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)


def free_port() -> int:
    """Returns a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
