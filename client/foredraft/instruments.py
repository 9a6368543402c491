"""The metrics of the catalogue as prometheus_client's objects, and the few that several parts move
alike.

This module knows nothing of when metrics move.
"""

from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from foredraft.catalog import METRICS, POSITIONS, Part

M = TypeVar("M", Counter, Gauge, Histogram)


class Registrar:
    """Registers the metrics of one part of the system, by their names in the catalogue."""

    def __init__(self, part: Part, registry: CollectorRegistry) -> None:
        self._declared = {m.name: m for m in METRICS if part in m.parts}
        self._registry = registry

    def counter(self, name: str) -> Counter:
        """Registers a counter by its name in the catalogue, without prefix and `_total`."""
        return self._make(f"foredraft_{name}_total", Counter)

    def gauge(self, name: str) -> Gauge:
        """Registers a gauge by its name in the catalogue, without prefix."""
        return self._make(f"foredraft_{name}", Gauge)

    def histogram(self, name: str) -> Histogram:
        """Registers a histogram by its name in the catalogue, without prefix."""
        return self._make(f"foredraft_{name}", Histogram)

    def _make(self, name: str, kind: type[M]) -> M:
        metric = self._declared[name]
        if metric.type is not kind:
            raise TypeError(f"{name} is a {metric.type.__name__}, not a {kind.__name__}")
        options: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
        made = kind(name, metric.meaning, list(metric.labels), registry=self._registry, **options)
        if len(metric.labels) == 1:
            (values,) = metric.labels.values()
            for value in values:
                # The series exist from the start, so that a rate sees the first event.
                made.labels(value)
        return made


class Acceptance:
    """Counts accepted tokens, in all and by their position in the proposal."""

    def __init__(self, registrar: Registrar, name: str) -> None:
        """Registers both counters: `name`, and the same with `_per_pos` after it."""
        self.tokens = registrar.counter(name)
        at = registrar.counter(f"{name}_per_pos")
        self._at = [at.labels(position) for position in POSITIONS]

    def observe(self, accepted: int, rounds: int = 1) -> None:
        """Records rounds in which the same number of tokens was accepted."""
        self.tokens.inc(accepted * rounds)
        for counter in self._at[:accepted]:
            counter.inc(rounds)


class TokenTimes:
    """Times tokens: the time to the first ones, the time between chunks, and each token's share of
    it.
    """

    def __init__(self, registrar: Registrar, prefix: str = "") -> None:
        """Registers three histograms. prefix: the prefix of their names."""
        self._first = registrar.histogram(f"{prefix}time_to_first_token_seconds")
        self._inter_chunk = registrar.histogram(f"{prefix}inter_chunk_seconds")
        self._inter_token = registrar.histogram(f"{prefix}inter_token_latency_seconds")

    def observe(self, waited_s: float, tokens: int, first: bool) -> None:
        """Records tokens that came together, and the seconds since those before them or since the
        beginning.
        """
        if first:
            self._first.observe(waited_s)
            return
        self._inter_chunk.observe(waited_s)
        for _ in range(tokens):
            self._inter_token.observe(waited_s / tokens)
