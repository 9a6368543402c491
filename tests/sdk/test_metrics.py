"""The client's metrics: what is counted, once for each registry, and how it is read."""

import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from foredraft import Client, ForedraftError, metrics
from tests.sdk.fake_target import FakeTarget, answer, endless, fails

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_generation_is_counted(
    target: Target, connect: Connect, registry: CollectorRegistry
) -> None:
    client = connect(target().address, registry=registry)
    client.generate("a")
    client.generate("a")
    value = registry.get_sample_value
    assert value("foredraft_client_requests_total", {"outcome": "ok"}) == 2
    assert value("foredraft_client_tokens_total") == 10
    for name in ("request", "time_to_first_token", "inter_chunk"):
        assert value(f"foredraft_client_{name}_seconds_count") == 2
        assert 0 < (value(f"foredraft_client_{name}_seconds_sum") or 0) < 10


def test_outcomes(target: Target, connect: Connect, registry: CollectorRegistry) -> None:
    def short(request: Any, context: Any) -> Any:
        yield from ()

    lost = fails(grpc.StatusCode.UNAVAILABLE)
    fake = target(fails(grpc.StatusCode.INTERNAL, after=1), lost, answer, short, endless)
    client = connect(fake.address, registry=registry)
    for outcome in ("internal", "ok", "internal"):
        with pytest.raises(ForedraftError) if outcome != "ok" else client.stream("never read"):
            client.generate("a")
    with client.stream("a") as stream:
        next(stream)
    value = registry.get_sample_value
    counts = {
        o: value("foredraft_client_requests_total", {"outcome": o})
        for o in ("internal", "ok", "cancelled")
    }
    assert counts == {"internal": 2, "ok": 1, "cancelled": 1}


def test_clients_share_a_registry(target: Target, registry: CollectorRegistry) -> None:
    address = target().address
    with Client(address, registry=registry) as one, Client(address, registry=registry) as other:
        one.generate("a")
        other.generate("a")
    with Client(address), Client(address):  # the global one
        pass
    assert registry.get_sample_value("foredraft_client_requests_total", {"outcome": "ok"}) == 2


def test_the_server(target: Target, registry: CollectorRegistry) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert metrics.start_server(port, registry=registry) == port
    with Client(target().address, registry=registry) as client:
        client.generate("a")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answered:
        assert "foredraft_client_tokens_total 5.0" in answered.read().decode()
