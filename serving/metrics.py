"""Every metric of the two services: name, unit, type and meaning.

Stems are vLLM's where vLLM has the signal. Labels are bounded and never carry request data. Knows
nothing of when a metric moves.
"""

from functools import partial
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# A millisecond to a minute: tokens that were accepted together arrive in bursts.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MAX_POSITION = 32


class Pool(Protocol):
    """Rows of an engine."""

    count: int

    @property
    def in_use(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class Step(Protocol):
    """A step of an engine, times in seconds."""

    @property
    def waiting_s(self) -> float: ...
    @property
    def forward_s(self) -> float: ...
    @property
    def logits_s(self) -> float: ...
    @property
    def tokens(self) -> int: ...


class EngineMetrics:
    """What both services have: rows and steps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows_in_use = Gauge("foredraft_rows_in_use", "Rows of the cache on loan.", registry=registry)
        self.rows = Gauge("foredraft_rows", "Rows of the cache.", registry=registry)
        self.requests_waiting = Gauge(
            "foredraft_num_requests_waiting", "Sequences that wait for a row.", registry=registry
        )
        self._step = Histogram(
            "foredraft_step_seconds",
            "Time of a step, by part.",
            ["part"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.step_waiting = self._step.labels("waiting")
        self.step_forward = self._step.labels("forward")
        self.step_logits = self._step.labels("logits")
        self.step_tokens = Histogram(
            "foredraft_step_tokens", "Tokens in a step.", buckets=[2**i for i in range(13)], registry=registry
        )

    def watch(self, pool: Pool) -> None:
        """Reads the rows' gauges off the pool at every scrape."""
        self.rows.set(pool.count)
        self.rows_in_use.set_function(lambda: pool.in_use)
        self.requests_waiting.set_function(lambda: pool.waiting)

    def observe_step(self, step: Step) -> None:
        """One step of the engine."""
        self.step_waiting.observe(step.waiting_s)
        self.step_forward.observe(step.forward_s)
        self.step_logits.observe(step.logits_s)
        self.step_tokens.observe(step.tokens)


class TargetMetrics(EngineMetrics):
    """The target service's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        counter = partial(Counter, registry=registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=registry)
        self.requests_running = Gauge("foredraft_num_requests_running", "Requests in progress.", registry=registry)
        self.requests = counter("foredraft_request_success", "Sequences that ended, by reason.", ["finished_reason"])
        self.failures = counter("foredraft_request_failure", "Requests that ended otherwise.", ["reason"])
        self.prompt_tokens = counter("foredraft_prompt_tokens", "Prompt tokens.")
        self.generated_tokens = counter("foredraft_generation_tokens", "Generated tokens.")
        self.rounds = counter("foredraft_rounds", "Verifications and plain decoding steps.")
        self.drafts = counter("foredraft_spec_decode_num_drafts", "Proposals verified.")
        self.draft_tokens = counter("foredraft_spec_decode_num_draft_tokens", "Tokens proposed.")
        self.accepted_tokens = counter("foredraft_spec_decode_num_accepted_tokens", "Proposed tokens accepted.")
        name = "foredraft_spec_decode_num_accepted_tokens_per_pos"
        self._accepted_at = counter(name, "Accepted tokens by position in the proposal.", ["position"])
        self.fallback_rounds = counter("foredraft_fallback_rounds", "Rounds without a remote proposal.", ["reason"])
        self.stale_blocks = counter("foredraft_stale_blocks", "Blocks for a base that was no longer current.")
        self.draft_round_trip = seconds("foredraft_draft_round_trip_seconds", "From commit to block.")
        self.time_to_first_token = seconds("foredraft_time_to_first_token_seconds", "From admission.")
        self.inter_chunk = seconds("foredraft_inter_chunk_seconds", "Between chunks of a sequence.")
        self.e2e = seconds("foredraft_e2e_request_latency_seconds", "Of a sequence.")

    def observe_round(self, proposed: int, accepted: int) -> None:
        """One verification."""
        self.rounds.inc()
        if proposed:
            self.drafts.inc()
            self.draft_tokens.inc(proposed)
            self.accepted_tokens.inc(accepted)
            for position in range(min(accepted, _MAX_POSITION)):
                self._accepted_at.labels(str(position)).inc()


class DraftMetrics(EngineMetrics):
    """The draft service's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.sessions = Gauge("foredraft_draft_sessions", "Sequences followed.", registry=registry)
        self.blocks = Counter("foredraft_draft_blocks", "Blocks sent, by drafter.", ["drafter"], registry=registry)
        self.tokens = Counter("foredraft_draft_tokens", "Tokens drafted, by drafter.", ["drafter"], registry=registry)
        self.cancelled = Counter(
            "foredraft_draft_cancelled",
            "Proposals given up because a commit overtook them.",
            registry=registry,
        )
        self.propose = Histogram(
            "foredraft_propose_seconds",
            "From commit to block, in the draft.",
            buckets=_SECONDS,
            registry=registry,
        )
