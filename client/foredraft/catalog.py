"""Every metric of the target service, the draft service and the SDK: name, type, unit, labels, meaning.

The one place that names them. Stems are vLLM's where vLLM has the signal. Labels have few values, written
here, and never carry what a request holds. Knows nothing of when a metric moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Part = Literal["target", "draft", "client"]
M = TypeVar("M", Counter, Gauge, Histogram)

# A millisecond to ten minutes: tokens that were accepted together arrive in bursts.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
# A token's share of its chunk is less than the chunk's time.
_TOKEN_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS[:13])
_TOKENS = tuple(float(2**i) for i in range(15))
MAX_POSITION = 32  # accepted tokens further out are counted in no position
_POSITIONS = tuple(map(str, range(MAX_POSITION)))
_DRAFTERS = ("model", "ngram", "none")
_SERVICES: tuple[Part, ...] = ("target", "draft")
_TARGET: tuple[Part, ...] = ("target",)
_DRAFT: tuple[Part, ...] = ("draft",)
_CLIENT: tuple[Part, ...] = ("client",)
_NO_LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as it is scraped."""

    name: str
    type: type[Counter] | type[Gauge] | type[Histogram]
    unit: str
    meaning: str
    parts: tuple[Part, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_LABELS)
    buckets: tuple[float, ...] = ()


def _counter(name: str, unit: str, meaning: str, parts: tuple[Part, ...], **labels: tuple[str, ...]) -> Metric:
    return Metric(f"foredraft_{name}_total", Counter, unit, meaning, parts, labels)


def _gauge(name: str, unit: str, meaning: str, parts: tuple[Part, ...]) -> Metric:
    return Metric(f"foredraft_{name}", Gauge, unit, meaning, parts)


def _seconds(
    name: str,
    meaning: str,
    parts: tuple[Part, ...],
    buckets: tuple[float, ...] = _SECONDS,
    **labels: tuple[str, ...],
) -> Metric:
    return Metric(f"foredraft_{name}_seconds", Histogram, "seconds", meaning, parts, labels, buckets)


def _accepted(name: str, meaning: str, parts: tuple[Part, ...]) -> tuple[Metric, Metric]:
    """The two counters that `Acceptance` moves."""
    by_position = "Proposed tokens accepted, by their position in the proposal."
    return (
        _counter(name, "tokens", meaning, parts),
        _counter(f"{name}_per_pos", "tokens", by_position, parts, position=_POSITIONS),
    )


METRICS = (
    # The engine, in both services.
    _gauge("rows", "rows", "Rows of the cache.", _SERVICES),
    _gauge("rows_in_use", "rows", "Rows of the cache on loan.", _SERVICES),
    _gauge("num_requests_waiting", "sequences", "Sequences that wait for a row.", _SERVICES),
    _seconds(
        "step",
        "Time of a step, by part: waiting for work, the forward pass, verifying by its logits.",
        _TARGET,
        part=("waiting", "forward", "verification"),
    ),
    _seconds(
        "step",
        "Time of a step, by part: waiting for work, the forward pass, drawing tokens from its logits.",
        _DRAFT,
        part=("waiting", "forward", "drawing"),
    ),
    Metric("foredraft_step_tokens", Histogram, "tokens", "New tokens in a step.", _SERVICES, buckets=_TOKENS),
    # Requests of the target.
    _gauge("num_requests_running", "requests", "Requests admitted and not yet ended.", _TARGET),
    _counter(
        "request_success",
        "sequences",
        "Sequences that ended by themselves.",
        _TARGET,
        finished_reason=("length", "eos_token", "stop_string", "max_time"),
    ),
    _counter(
        "request_failure",
        "requests",
        "Requests that ended otherwise: left by the caller, out of time, refused as invalid, failed.",
        _TARGET,
        reason=("cancelled", "deadline", "invalid", "error"),
    ),
    _counter("prompt_tokens", "tokens", "Tokens of the prompts of sequences that got a row.", _TARGET),
    _counter("generation_tokens", "tokens", "Generated tokens.", _TARGET),
    _seconds("request_queue_time", "From admission to a row, of a sequence.", _TARGET),
    _seconds("time_to_first_token", "From admission to the first token, of a sequence.", _TARGET),
    _seconds("inter_chunk", "Between two chunks of a sequence.", _TARGET),
    _seconds("inter_token_latency", "A token's share of the time between two chunks.", _TARGET, buckets=_TOKEN_SECONDS),
    _seconds("e2e_request_latency", "From admission to the end, of a sequence that ended by itself.", _TARGET),
    # Assistance, seen by the target.
    _counter("rounds", "rounds", "Verifications and plain decoding steps.", _TARGET),
    _counter("spec_decode_num_drafts", "proposals", "Proposals verified.", _TARGET),
    _counter("spec_decode_num_draft_tokens", "tokens", "Tokens proposed.", _TARGET),
    *_accepted("spec_decode_num_accepted_tokens", "Proposed tokens accepted, alternatives among them.", _TARGET),
    _counter("spec_decode_num_alternative_tokens", "tokens", "Tokens verified beside proposals.", _TARGET),
    _counter("spec_decode_num_accepted_alternatives", "tokens", "Of these, those that were accepted.", _TARGET),
    _counter(
        "fallback_rounds",
        "rounds",
        "Rounds that had to do without the draft service, by reason.",
        _TARGET,
        reason=("lost", "late", "mismatch", "refused", "empty", "cheaper"),
    ),
    _counter("stale_blocks", "blocks", "Blocks on tokens that were no longer the last.", _TARGET),
    _seconds("draft_round_trip", "From a commit to the block that was used, draft and network together.", _TARGET),
    _counter("draft_hidden_seconds", "seconds", "Of that time, what nobody waited for.", _TARGET),
    _seconds("draft_wait", "Of that time, what the round waited for.", _TARGET),
    _counter(
        "outcome_hits",
        "rounds",
        "Verifications that went as drafted ahead for: no round trip, and no wait if that was there in time.",
        _TARGET,
        arrival=("in_time", "late"),
    ),
    _counter(
        "outcome_misses",
        "rounds",
        "Verifications that found nothing drafted ahead: not among the outcomes, or not there in time.",
        _TARGET,
        reason=("unforeseen", "late"),
    ),
    _counter(
        "draft_bytes",
        "bytes",
        "Messages between target and draft, by direction.",
        _TARGET,
        direction=("sent", "received"),
    ),
    # The draft.
    _gauge("draft_sessions", "sequences", "Sequences followed.", _DRAFT),
    _counter(
        "draft_requests",
        "sequences",
        "Sequences that were followed, by how that ended: the target is done when it leaves.",
        _DRAFT,
        outcome=("done", "invalid", "error"),
    ),
    _counter("draft_rounds", "rounds", "Commits, each the end of a round of the target's.", _DRAFT),
    _counter("draft_blocks", "blocks", "Blocks sent.", _DRAFT, drafter=_DRAFTERS),
    _counter("draft_tokens", "tokens", "Tokens proposed.", _DRAFT, drafter=_DRAFTERS),
    *_accepted("draft_accepted_tokens", "Proposed tokens accepted, as commits tell.", _DRAFT),
    _counter("draft_cancelled", "proposals", "Proposals given up because a commit overtook them.", _DRAFT),
    _seconds("propose", "From a commit to the proposal that the target waits for, inside the draft.", _DRAFT),
    _seconds("draft_ahead", "From knowing what is verified to outcomes of that, inside the draft.", _DRAFT),
    _counter("draft_outcomes", "outcomes", "Outcomes drafted ahead for, and pushed.", _DRAFT),
    _counter("draft_wasted_tokens", "tokens", "Tokens pushed for outcomes that did not come.", _DRAFT),
    # The client.
    _counter(
        "client_requests",
        "calls",
        "Generations, by outcome: ok, cancelled by the caller, or gRPC's name of what went wrong.",
        _CLIENT,
        outcome=("ok",),
    ),
    _counter("client_tokens", "tokens", "Tokens received.", _CLIENT),
    _counter("client_rounds", "rounds", "Rounds of the target's, as results tell.", _CLIENT),
    _counter("client_draft_tokens", "tokens", "Tokens proposed, as results tell.", _CLIENT),
    *_accepted("client_accepted_tokens", "Proposed tokens accepted, as results tell.", _CLIENT),
    _seconds("client_time_to_first_token", "From the call to its first tokens, retries included.", _CLIENT),
    _seconds("client_inter_chunk", "Between two chunks of a call.", _CLIENT),
    _seconds(
        "client_inter_token_latency",
        "A token's share of the time between two chunks.",
        _CLIENT,
        buckets=_TOKEN_SECONDS,
    ),
    _seconds("client_request", "Length of a call, retries included.", _CLIENT),
)


class Registrar:
    """Registers the metrics of one part of the system, by their names in the table."""

    def __init__(self, part: Part, registry: CollectorRegistry) -> None:
        self._declared = {m.name: m for m in METRICS if part in m.parts}
        self._registry = registry

    def counter(self, name: str) -> Counter:
        """A counter by its name in the table, without prefix and `_total`."""
        return self._make(f"foredraft_{name}_total", Counter)

    def gauge(self, name: str) -> Gauge:
        """A gauge by its name in the table, without prefix."""
        return self._make(f"foredraft_{name}", Gauge)

    def histogram(self, name: str) -> Histogram:
        """A histogram by its name in the table, without prefix."""
        return self._make(f"foredraft_{name}", Histogram)

    def _make(self, name: str, kind: type[M]) -> M:
        metric = self._declared[name]
        if metric.type is not kind:
            raise TypeError(f"{name} is a {metric.type.__name__}, not a {kind.__name__}")
        options: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
        made = kind(name, metric.meaning, list(metric.labels), registry=self._registry, **options)
        for values in metric.labels.values():  # one label at most
            for value in values if len(values) < MAX_POSITION else ():
                made.labels(value)  # there from the start, so that a rate sees the first event
        return made


class Acceptance:
    """Accepted tokens, in all and by their position in the proposal: two counters of every part."""

    def __init__(self, registrar: Registrar, name: str) -> None:
        """name: of the counter in all; the other has `_per_pos` after it."""
        self._tokens = registrar.counter(name)
        at = registrar.counter(f"{name}_per_pos")
        self._at = [at.labels(position) for position in _POSITIONS]

    def observe(self, accepted: int, rounds: int = 1) -> None:
        """In so many rounds, so many tokens were accepted in each."""
        self._tokens.inc(accepted * rounds)
        for counter in self._at[:accepted]:
            counter.inc(rounds)


class TokenTimes:
    """When tokens come: to the first ones, between chunks, and each token's share of that."""

    def __init__(self, registrar: Registrar, prefix: str = "") -> None:
        """prefix: of the names of the three histograms."""
        self._first = registrar.histogram(f"{prefix}time_to_first_token_seconds")
        self._inter_chunk = registrar.histogram(f"{prefix}inter_chunk_seconds")
        self._inter_token = registrar.histogram(f"{prefix}inter_token_latency_seconds")

    def observe(self, waited_s: float, tokens: int, first: bool) -> None:
        """So many tokens came together, so long after those before them, or after the beginning."""
        if first:
            self._first.observe(waited_s)
            return
        self._inter_chunk.observe(waited_s)
        for _ in range(tokens):
            self._inter_token.observe(waited_s / tokens)
