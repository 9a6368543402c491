"""The client's Prometheus metrics. Knows nothing of requests' contents: labels never carry them."""

import threading
import time
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, start_http_server

from foredraft._types import Chunk

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_lock = threading.Lock()
_known: "WeakKeyDictionary[CollectorRegistry, ClientMetrics]" = WeakKeyDictionary()


class ClientMetrics:
    """All of them, in one registry, on generations alone; times are what callers waited, retries included."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("foredraft_client_requests", "Calls, by outcome.", ["outcome"], registry=registry)
        self.seconds = Histogram(
            "foredraft_client_request_seconds", "Length of a call.", buckets=_SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "foredraft_client_time_to_first_token_seconds",
            "Until tokens came.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.inter_chunk = Histogram(
            "foredraft_client_inter_chunk_seconds",
            "Between chunks of a call.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter("foredraft_client_tokens", "Tokens received.", registry=registry)


def for_registry(registry: CollectorRegistry | None = None) -> ClientMetrics:
    """The metrics of a registry, registered at first use; by default in prometheus_client's own."""
    registry = registry or REGISTRY
    with _lock:
        if registry not in _known:
            _known[registry] = ClientMetrics(registry)
        return _known[registry]


def start_server(port: int, addr: str = "127.0.0.1", registry: CollectorRegistry | None = None) -> int:
    """Serves /metrics from a thread; returns the port (0 draws one).

    Raises:
        OSError: the port is in use.
    """
    for_registry(registry)
    server, _ = start_http_server(port, addr, registry or REGISTRY)
    return int(server.server_port)


class CallTimer:
    """Times one call, from its first attempt."""

    def __init__(self, metrics: ClientMetrics) -> None:
        self._metrics = metrics
        self._began = self._last = 0.0
        self._tokens = 0

    def start(self) -> None:
        """An attempt begins; the first one counts."""
        if not self._began:
            self._began = self._last = time.perf_counter()

    def chunk(self, chunk: Chunk) -> None:
        """A chunk came; one without tokens only says why a sequence ended."""
        if not chunk.token_ids:
            return
        now = time.perf_counter()
        (self._metrics.inter_chunk if self._tokens else self._metrics.first_token).observe(now - self._last)
        self._last = now
        self._tokens += len(chunk.token_ids)

    def end(self, outcome: str) -> None:
        """The call ended; one that never began is none."""
        if self._began:
            self._metrics.requests.labels(outcome).inc()
            self._metrics.seconds.observe(time.perf_counter() - self._began)
            self._metrics.tokens.inc(self._tokens)
