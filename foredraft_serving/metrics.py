"""The moments at which the metrics of both services move; names and meanings are in
`foredraft.catalog`.

This module knows nothing of what requests hold: labels never carry it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from foredraft import __version__
from foredraft.catalog import DRAFT_STATES
from foredraft.instruments import Acceptance, Registrar, TokenTimes
from foredraft.wire.api_tokens import TOKEN_LIMITS

_REFUSED_OTHERWISE = {"credentials": "unauthenticated"}


class Pool(Protocol):
    """The rows of an engine."""

    count: int

    @property
    def in_use(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def tokens(self) -> int: ...


class Step(Protocol):
    """The times of a step of an engine, in seconds."""

    @property
    def waiting_s(self) -> float: ...
    @property
    def forward_s(self) -> float: ...
    @property
    def logits_s(self) -> float: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Totals:
    """What a target has counted since it started."""

    generated: float
    """The tokens that were generated."""
    rounds: float
    proposed: float
    accepted: float
    prefix_queries: float
    """The tokens of prompts."""
    prefix_hits: float
    """Those of them that a row held already."""


class EngineMetrics:
    """The metrics that both services have: rows and steps."""

    def __init__(self, registrar: Registrar, last_part: str) -> None:
        """Registers the metrics.

        Args:
            last_part: the name of what a step makes of its logits.
        """
        self._info = registrar.gauge("info")
        self._rows = registrar.gauge("rows")
        self._rows_in_use = registrar.gauge("rows_in_use")
        self._usage = registrar.gauge("kv_cache_usage_ratio")
        self._requests_waiting = registrar.gauge("num_requests_waiting")
        step = registrar.histogram("step_seconds")
        self._parts = [step.labels(part) for part in ("waiting", "forward", last_part)]
        self._step_tokens = registrar.histogram("step_tokens")

    def serves(self, model: str, device: str, dtype: str) -> None:
        """Records what the service serves; a service without a model drafts by n-grams alone."""
        self._info.labels(__version__, model, device, dtype).set(1)

    def watch(self, pool: Pool, capacity: int) -> None:
        """Reads the gauges of the rows off the pool at every scrape.

        Args:
            capacity: the number of tokens that fit a row.
        """
        places = pool.count * capacity
        self._rows.set(pool.count)
        self._rows_in_use.set_function(lambda: pool.in_use)
        self._usage.set_function(lambda: pool.tokens / places)
        self._requests_waiting.set_function(lambda: pool.waiting)

    def observe_step(self, step: Step) -> None:
        """Records one step of the engine."""
        for part, seconds in zip(
            self._parts, (step.waiting_s, step.forward_s, step.logits_s), strict=True
        ):
            part.observe(seconds)
        self._step_tokens.observe(step.tokens)


class TargetMetrics(EngineMetrics):
    """The metrics of the target service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registrar = Registrar("target", registry)
        super().__init__(registrar, "verification")
        self.requests_running = registrar.gauge("num_requests_running")
        self.successes = registrar.counter("request_success")
        self.failures = registrar.counter("request_failure")
        self._refusals = registrar.counter("requests_refused")
        self.prompt_tokens = registrar.counter("prompt_tokens")
        self.generated_tokens = registrar.counter("generation_tokens")
        self._grammars = registrar.counter("grammars")
        self.prefix_queries = registrar.counter("prefix_cache_queries")
        self.prefix_hits = registrar.counter("prefix_cache_hits")
        self.queue_time = registrar.histogram("request_queue_time_seconds")
        self.prefill_time = registrar.histogram("request_prefill_time_seconds")
        self.decode_time = registrar.histogram("request_decode_time_seconds")
        self.token_times = TokenTimes(registrar)
        self.e2e = registrar.histogram("e2e_request_latency_seconds")
        self.prompt_lengths = registrar.histogram("request_prompt_tokens")
        self.text_lengths = registrar.histogram("request_generation_tokens")
        self._rounds = registrar.counter("rounds")
        self._drafts = registrar.counter("spec_decode_num_drafts")
        self._draft_tokens = registrar.counter("spec_decode_num_draft_tokens")
        self._acceptance = Acceptance(registrar, "spec_decode_num_accepted_tokens")
        self._alternatives = registrar.counter("spec_decode_num_alternative_tokens")
        self._beside = registrar.counter("spec_decode_num_accepted_alternatives")
        self.forced_tokens = registrar.counter("forced_tokens")
        self._fallback_rounds = registrar.counter("fallback_rounds")
        self._drafts_by_state = registrar.gauge("drafts")
        self.discarded_blocks = registrar.counter("discarded_blocks")
        self.draft_round_trip = registrar.histogram("draft_round_trip_seconds")
        self.draft_wait = registrar.histogram("draft_wait_seconds")
        self.draft_hidden = registrar.counter("draft_hidden_seconds")
        self.draft_bytes = registrar.counter("draft_bytes")
        self._hits = registrar.counter("outcome_hits")
        self._misses = registrar.counter("outcome_misses")
        self.waiting: Callable[[], int] = lambda: 0
        """Returns the number of sequences that wait."""

    def watch_waiting(self, waiting: Callable[[], int]) -> None:
        """Reads the number of waiting sequences at every scrape: a call of many has only some of
        them in the queue of the rows.
        """
        self.waiting = waiting
        self._requests_waiting.set_function(waiting)

    def watch_drafts(self, states: Callable[[], Sequence[str]]) -> None:
        """Counts draft services by state at every scrape."""
        for state in DRAFT_STATES:
            self._drafts_by_state.labels(state).set_function(
                partial(lambda s: states().count(s), state)
            )

    def observe_refusal(self, reason: str) -> None:
        """Records a request that is refused before it costs much: for want of a credential, by a
        limit of its token, or because of load.
        """
        kind = "limited" if reason in TOKEN_LIMITS else _REFUSED_OTHERWISE.get(reason, "overloaded")
        self.failures.labels(kind).inc()
        self._refusals.labels(reason).inc()

    def observe_grammar(self, result: str) -> None:
        """Records how the grammar of a call came."""
        self._grammars.labels(result).inc()

    def observe_round(self, proposed: int, accepted: int, fallback: str) -> None:
        """Records one verification.

        Args:
            fallback: the reason why the draft service did not propose, if it should have.
        """
        self._rounds.inc()
        if proposed:
            self._drafts.inc()
            self._draft_tokens.inc(proposed)
            self._acceptance.observe(accepted)
        if fallback:
            self._fallback_rounds.labels(fallback).inc()

    def observe_alternatives(self, verified: int, accepted: bool) -> None:
        """Records how many alternatives were verified, and whether one of them was accepted."""
        self._alternatives.inc(verified)
        self._beside.inc(accepted)

    def totals(self) -> Totals:
        """Returns what was counted so far."""
        return Totals(
            _total(self.generated_tokens),
            _total(self._rounds),
            _total(self._draft_tokens),
            _total(self._acceptance.tokens),
            _total(self.prefix_queries),
            _total(self.prefix_hits),
        )

    def observe_foresight(self, hit: str, missed: str) -> None:
        """Records one verification that a draft was to prepare for.

        Args:
            hit: when the block of its outcome came: "in_time" or "late"; empty for a miss.
            missed: the reason why there would be no block.
        """
        if hit:
            self._hits.labels(hit).inc()
        else:
            self._misses.labels(missed).inc()


class DraftMetrics(EngineMetrics):
    """The metrics of the draft service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registrar = Registrar("draft", registry)
        super().__init__(registrar, "drawing")
        self.sessions = registrar.gauge("draft_sessions")
        self.requests = registrar.counter("draft_requests")
        self.rounds = registrar.counter("draft_rounds")
        self._blocks = registrar.counter("draft_blocks")
        self._tokens = registrar.counter("draft_tokens")
        self.acceptance = Acceptance(registrar, "draft_accepted_tokens")
        self.cancelled = registrar.counter("draft_cancelled")
        self._propose = registrar.histogram("propose_seconds")
        self._outcomes = registrar.counter("draft_outcomes")
        self.wasted_tokens = registrar.counter("draft_wasted_tokens")
        self._ahead = registrar.histogram("draft_ahead_seconds")

    def observe_refusal(self, reason: str) -> None:
        """Records a call of somebody who may not make it."""
        self.requests.labels("refused").inc()

    def observe_block(self, drafter: str, tokens: int, spent_s: float) -> None:
        """Records a block that was sent on committed tokens."""
        self._blocks.labels(drafter).inc()
        self._tokens.labels(drafter).inc(tokens)
        self._propose.observe(spent_s)

    def observe_ahead(self, outcomes: int, tokens: int, spent_s: float) -> None:
        """Records a block of outcomes that was sent ahead."""
        self._blocks.labels("model").inc()
        self._outcomes.inc(outcomes)
        self._tokens.labels("model").inc(tokens)
        self._ahead.observe(spent_s)


def _total(counter: Counter) -> float:
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
