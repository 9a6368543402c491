"""How busy the service is, as gateways ask for it.

This module knows nothing of calls.
"""

import time
from collections import deque
from dataclasses import dataclass

from smg_grpc_proto.generated import common_pb2, vllm_engine_pb2

from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.metrics import TargetMetrics, Totals

_WINDOW_S = 2.0  # over which rates are measured


@dataclass(frozen=True, slots=True)
class _Recent:
    """What was counted within the window."""

    seconds: float
    generated: float
    rounds: float
    proposed: float
    accepted: float

    @property
    def tokens_per_s(self) -> float:
        return self.generated / self.seconds if self.seconds else 0.0

    @property
    def speculation(self) -> common_pb2.EngineSpeculative | None:
        """The mean acceptance length and rate; None if nothing was verified."""
        if not self.rounds:
            return None
        return common_pb2.EngineSpeculative(
            accept_length=1 + self.accepted / self.rounds,
            accept_rate=self.accepted / self.proposed if self.proposed else 0.0,
        )


class LoadMeter:
    """Reads the load off the engine and the metrics."""

    def __init__(self, engine: Engine, metrics: TargetMetrics) -> None:
        self._engine, self._metrics = engine, metrics
        self._seen: deque[tuple[float, Totals]] = deque([(time.monotonic(), metrics.totals())])

    def scheduler_load(self) -> vllm_engine_pb2.SchedulerLoad:
        """Returns the load as `GetLoads` tells it; a row is a running request."""
        pool, engine, totals = self._engine.pool, self._engine, self._metrics.totals()
        places, waiting = pool.count * engine.capacity, self._metrics.waiting()
        return vllm_engine_pb2.SchedulerLoad(
            num_running_reqs=pool.in_use,
            num_waiting_reqs=waiting,
            num_total_reqs=pool.in_use + waiting,
            num_used_tokens=pool.tokens,
            max_total_num_tokens=places,
            token_usage=pool.tokens / places,
            utilization=pool.tokens / places,
            gen_throughput=self._recent(totals).tokens_per_s,
            cache_hit_rate=totals.prefix_hits / max(1.0, totals.prefix_queries),
            max_running_requests=pool.count,
        )

    def engine_load(self) -> common_pb2.EngineLoad:
        """Returns the same as the stream of events tells it."""
        load = self.scheduler_load()
        return common_pb2.EngineLoad(
            running_requests=load.num_running_reqs,
            waiting_requests=load.num_waiting_reqs,
            token_usage=load.token_usage,
            gen_throughput=load.gen_throughput,
            max_running_requests=load.max_running_requests,
            load_only=True,
            cache_hit_rate=load.cache_hit_rate,
            num_used_tokens=load.num_used_tokens,
            max_total_num_tokens=load.max_total_num_tokens,
            speculative=self._recent(self._metrics.totals()).speculation,
        )

    def _recent(self, now: Totals) -> _Recent:
        """Returns what was counted since the beginning of the window, and moves it on."""
        at = time.monotonic()
        if at - self._seen[-1][0] > _WINDOW_S / 4:
            self._seen.append((at, now))
        while len(self._seen) > 1 and at - self._seen[1][0] >= _WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return _Recent(
            at - began,
            now.generated - before.generated,
            now.rounds - before.rounds,
            now.proposed - before.proposed,
            now.accepted - before.accepted,
        )
