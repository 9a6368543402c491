"""The moments at which the client's metrics move; names and meanings are in `foredraft.catalog`.

This module knows nothing of what requests hold: labels never carry it.
"""

import threading
import time
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry

from foredraft._types import Chunk, Stats
from foredraft.exposition import serve
from foredraft.instruments import Acceptance, Registrar, TokenTimes

_lock = threading.Lock()
_known: "WeakKeyDictionary[CollectorRegistry, ClientMetrics]" = WeakKeyDictionary()


class ClientMetrics:
    """The client's metrics in one registry. They count generations alone.

    Times are those that callers waited, retries included.
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
        """Records the statistics of a sequence that ended."""
        self._rounds.inc(stats.rounds)
        self._draft_tokens.inc(stats.proposed)
        for accepted, rounds in enumerate(stats.acceptance_histogram):
            self._acceptance.observe(accepted, rounds)


def for_registry(registry: CollectorRegistry | None = None) -> ClientMetrics:
    """Returns the metrics of a registry, registered at first use; None is prometheus_client's own
    registry.
    """
    registry = registry or REGISTRY
    with _lock:
        if registry not in _known:
            _known[registry] = ClientMetrics(registry)
        return _known[registry]


def start_server(
    port: int, addr: str = "127.0.0.1", registry: CollectorRegistry | None = None
) -> int:
    """Serves /metrics from a thread; returns the port. Port 0 draws one.

    Raises:
        OSError: the port is in use.
    """
    for_registry(registry)
    return serve(port, addr, registry or REGISTRY)


# The number of chunks that a call keeps before they are counted, so that a long call shows while it
# runs.
_KEPT = 256


class CallTimer:
    """Times one call, from its first attempt.

    What comes with a chunk is only noted, and counted when the call ends, so that a reader does not
    wait for its metrics.
    """

    def __init__(self, metrics: ClientMetrics) -> None:
        self._metrics = metrics
        self._began = self._last = 0.0
        self._tokens = 0
        # the moments at which chunks came, and their numbers of tokens
        self._notes: list[tuple[float, int]] = []

    def start(self) -> None:
        """Records that an attempt begins; the first one counts."""
        if not self._began:
            self._began = self._last = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """The time since the call began."""
        return time.perf_counter() - self._began

    def chunk(self, chunk: Chunk) -> None:
        """Records a chunk; a chunk without tokens only says why a sequence ended."""
        if not chunk.token_ids:
            return
        self._notes.append((time.perf_counter(), len(chunk.token_ids)))
        if len(self._notes) == _KEPT:
            self._count()

    def end(self, outcome: str, stats: Iterable[Stats] = ()) -> None:
        """Records the end of the call; a call that never began is not counted."""
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
