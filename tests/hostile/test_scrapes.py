"""The port of metrics under half requests: a scrape is answered, threads are few and come back."""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
from prometheus_client import CollectorRegistry

from foredraft import exposition, metrics
from foredraft_serving.server import serve_metrics
from tests.integration.processes import until
from tests.premises import begins_again, in_time

HALF_REQUESTS = 300
# On a loaded machine; a scrape takes milliseconds.
_PATIENCE_S = 5.0


def _by_the_sdk(registry: CollectorRegistry) -> int:
    return metrics.start_server(0, registry=registry)


def _by_a_service(registry: CollectorRegistry) -> int:
    return int(serve_metrics("127.0.0.1:0", registry).rpartition(":")[2])


SERVED = {"sdk": _by_the_sdk, "service": _by_a_service}
HALVES = {
    "silent": b"",
    "half a line": b"GET /met",
    "no end of headers": b"GET /metrics HTTP/1.1\r\nHost: a\r\n",
    "garbage": bytes(range(256)),
}


@pytest.fixture(params=SERVED)
def port(request: pytest.FixtureRequest) -> int:
    return SERVED[request.param](CollectorRegistry())


def _scrape_s(port: int) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert answer.status == 200
        answer.read()
    return time.perf_counter() - began


@pytest.mark.parametrize("half", HALVES)
@begins_again
def test_half_requests_hold_neither_threads_nor_a_scrape(
    port: int, half: str, measured: Callable[[str], None]
) -> None:
    before = threading.active_count()
    with ExitStack() as held:
        for _ in range(HALF_REQUESTS):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(HALVES[half])
        scrape_s = _scrape_s(port)
        threads = threading.active_count() - before
        in_time(scrape_s < _PATIENCE_S, scrape_s)
        # One more is on its way out while another comes in.
        assert threads <= exposition.MAX_CONNECTIONS + 1
    measured(f"{HALF_REQUESTS} half scrapes, {half}: {threads} threads, {scrape_s * 1e3:.0f} ms")


def test_a_connection_that_trickles_has_an_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exposition, "CONNECTION_S", 1.0)
    port = _by_the_sdk(CollectorRegistry())
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(0.05)
        began, ended = time.monotonic(), False
        while not ended and time.monotonic() < began + 60:
            with suppress(TimeoutError):
                slow.sendall(b"G")
                ended = not slow.recv(1)
    assert ended
    until(lambda: threading.active_count() <= before)
    _scrape_s(port)
    assert capfd.readouterr().err == ""  # it is no fault of the service
