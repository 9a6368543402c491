"""When the client's metrics move. What they are called and mean is in `foredraft.catalog`.

Knows nothing of requests' contents: labels never carry them.
"""

import threading
import time
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from foredraft._types import Chunk, Stats
from foredraft.instruments import Acceptance, Registrar, TokenTimes

_lock = threading.Lock()
_known: "WeakKeyDictionary[CollectorRegistry, ClientMetrics]" = WeakKeyDictionary()


class ClientMetrics:
    """All of them, in one registry, on generations alone;

    times are what callers waited, retries included.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        registrar = Registrar("client", registry)
        self.requests = registrar.counter("client_requests")
        self.seconds = registrar.histogram("client_request_seconds")
        self.token_times = TokenTimes(registrar, "client_")
        self.tokens = registrar.counter("client_tokens")
        self._rounds = registrar.counter("client_rounds")
        self._draft_tokens = registrar.counter("client_draft_tokens")
        self._acceptance = Acceptance(registrar, "client_accepted_tokens")

    def observe_stats(self, stats: Stats) -> None:
        """What assistance did for a sequence that ended."""
        self._rounds.inc(stats.rounds)
        self._draft_tokens.inc(stats.proposed)
        for accepted, rounds in enumerate(stats.acceptance_histogram):
            self._acceptance.observe(accepted, rounds)


def for_registry(registry: CollectorRegistry | None = None) -> ClientMetrics:
    """The metrics of a registry, registered at first use; by default in prometheus_client's own."""
    registry = registry or REGISTRY
    with _lock:
        if registry not in _known:
            _known[registry] = ClientMetrics(registry)
        return _known[registry]


def start_server(
    port: int, addr: str = "127.0.0.1", registry: CollectorRegistry | None = None
) -> int:
    """Serves /metrics from a thread; returns the port (0 draws one).

    Raises:
        OSError: the port is in use.
    """
    for_registry(registry)
    server, _ = start_http_server(port, addr, registry or REGISTRY)
    return int(server.server_port)


# Chunks that a call keeps before they are counted: a long call shows while it runs.
_KEPT = 256


class CallTimer:
    """Times one call, from its first attempt.

    What comes with a chunk is only noted, and counted at the call's end: a reader does not wait for
    its metrics.
    """

    def __init__(self, metrics: ClientMetrics) -> None:
        self._metrics = metrics
        self._began = self._last = 0.0
        self._tokens = 0
        self._notes: list[tuple[float, int]] = []  # when chunks came, and with how many tokens

    def start(self) -> None:
        """An attempt begins; the first one counts."""
        if not self._began:
            self._began = self._last = time.perf_counter()

    def chunk(self, chunk: Chunk) -> None:
        """A chunk came; one without tokens only says why a sequence ended."""
        if not chunk.token_ids:
            return
        self._notes.append((time.perf_counter(), len(chunk.token_ids)))
        if len(self._notes) == _KEPT:
            self._count()

    def end(self, outcome: str, stats: Iterable[Stats] = ()) -> None:
        """The call ended; one that never began is none."""
        self._count()
        for one in stats:
            self._metrics.observe_stats(one)
        if self._began:
            self._metrics.requests.labels(outcome).inc()
            self._metrics.seconds.observe(time.perf_counter() - self._began)

    def _count(self) -> None:
        for at, tokens in self._notes:
            self._metrics.token_times.observe(at - self._last, tokens, first=not self._tokens)
            self._metrics.tokens.inc(tokens)
            self._last = at
            self._tokens += tokens
        self._notes.clear()
