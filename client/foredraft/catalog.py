"""Every metric of the target service, the draft service and the SDK: name, type, unit, labels,
meaning.

The one place that names them; docs/metrics.md is made from it. Stems are vLLM's where vLLM has the
signal. Labels have few values, written here, and never carry what a request holds. Knows nothing of
when a metric moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import grpc
from prometheus_client import Counter, Gauge, Histogram

Part = Literal["target", "draft", "client"]

# A millisecond to ten minutes: tokens that were accepted together arrive in bursts.
_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    600.0,
)
# A token's share of its chunk is less than the chunk's time.
_TOKEN_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS[:13])
_LENGTHS = tuple(float(2**i) for i in range(15))
MAX_POSITION = 32  # accepted tokens further out are counted in no position
POSITIONS = tuple(map(str, range(MAX_POSITION)))
_DRAFTERS = ("model", "ngram", "none")
DRAFT_STATES = ("ready", "down", "mismatch")
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
    """Names, and the values of each;

    none where the configuration says them, one for each process.
    """
    buckets: tuple[float, ...] = ()


def _counter(
    name: str, unit: str, meaning: str, parts: tuple[Part, ...], **labels: tuple[str, ...]
) -> Metric:
    return Metric(f"foredraft_{name}_total", Counter, unit, meaning, parts, labels)


def _gauge(
    name: str, unit: str, meaning: str, parts: tuple[Part, ...], **labels: tuple[str, ...]
) -> Metric:
    return Metric(f"foredraft_{name}", Gauge, unit, meaning, parts, labels)


def _seconds(
    name: str,
    meaning: str,
    parts: tuple[Part, ...],
    buckets: tuple[float, ...] = _SECONDS,
    **labels: tuple[str, ...],
) -> Metric:
    return Metric(
        f"foredraft_{name}_seconds", Histogram, "seconds", meaning, parts, labels, buckets
    )


def _tokens(name: str, meaning: str, parts: tuple[Part, ...]) -> Metric:
    return Metric(f"foredraft_{name}_tokens", Histogram, "tokens", meaning, parts, buckets=_LENGTHS)


def _accepted(name: str, meaning: str, parts: tuple[Part, ...]) -> tuple[Metric, Metric]:
    """Two counters: in all, and by position."""
    by_position = "Proposed tokens accepted, by their position in the proposal."
    return (
        _counter(name, "tokens", meaning, parts),
        _counter(f"{name}_per_pos", "tokens", by_position, parts, position=POSITIONS),
    )


METRICS = (
    # The engine, in both services.
    _gauge(
        "info",
        "none",
        "Always 1: what the process serves.",
        _SERVICES,
        version=(),
        model=(),
        device=(),
        dtype=(),
    ),
    _gauge("rows", "rows", "Rows of the cache.", _SERVICES),
    _gauge("rows_in_use", "rows", "Rows of the cache on loan.", _SERVICES),
    _gauge(
        "kv_cache_usage_ratio",
        "ratio",
        "Of all places of all rows, those that live sequences fill.",
        _SERVICES,
    ),
    _gauge("num_requests_waiting", "sequences", "Sequences that wait for a row.", _SERVICES),
    _seconds(
        "step",
        "Time of a step, by part: waiting for work, the forward pass, verifying by its logits.",
        _TARGET,
        part=("waiting", "forward", "verification"),
    ),
    _seconds(
        "step",
        "Time of a step, by part: waiting for work, the forward pass, drawing tokens from "
        "its logits.",
        _DRAFT,
        part=("waiting", "forward", "drawing"),
    ),
    _tokens("step", "New tokens in a step.", _SERVICES),
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
        "Requests that ended otherwise: left by the caller, out of time, refused as "
        "invalid, failed.",
        _TARGET,
        reason=("cancelled", "deadline", "invalid", "error"),
    ),
    _counter(
        "prompt_tokens", "tokens", "Tokens of the prompts of sequences that got a row.", _TARGET
    ),
    _counter("generation_tokens", "tokens", "Generated tokens.", _TARGET),
    _counter(
        "prefix_cache_queries",
        "tokens",
        "Tokens of prompts that rows were looked through for.",
        _TARGET,
    ),
    _counter(
        "prefix_cache_hits",
        "tokens",
        "Of these, those that were not fed: a row held them.",
        _TARGET,
    ),
    _tokens("request_prompt", "Length of the prompt of a sequence that ended by itself.", _TARGET),
    _tokens(
        "request_generation", "Length of the text of a sequence that ended by itself.", _TARGET
    ),
    _seconds("request_queue_time", "From admission to a row, of a sequence.", _TARGET),
    _seconds("request_prefill_time", "From a row to the first token, of a sequence.", _TARGET),
    _seconds(
        "request_decode_time",
        "From the first token to the last, of a sequence that ended by itself.",
        _TARGET,
    ),
    _seconds("time_to_first_token", "From admission to the first token, of a sequence.", _TARGET),
    _seconds("inter_chunk", "Between two chunks of a sequence.", _TARGET),
    _seconds(
        "inter_token_latency",
        "A token's share of the time between two chunks.",
        _TARGET,
        buckets=_TOKEN_SECONDS,
    ),
    _seconds(
        "e2e_request_latency",
        "From admission to the end, of a sequence that ended by itself.",
        _TARGET,
    ),
    # Assistance, seen by the target.
    _counter("rounds", "rounds", "Verifications and plain decoding steps.", _TARGET),
    _counter("spec_decode_num_drafts", "proposals", "Proposals verified.", _TARGET),
    _counter("spec_decode_num_draft_tokens", "tokens", "Tokens proposed.", _TARGET),
    *_accepted(
        "spec_decode_num_accepted_tokens",
        "Proposed tokens accepted, alternatives among them.",
        _TARGET,
    ),
    _counter(
        "spec_decode_num_alternative_tokens", "tokens", "Tokens verified beside proposals.", _TARGET
    ),
    _counter(
        "spec_decode_num_accepted_alternatives",
        "tokens",
        "Of these, those that were accepted.",
        _TARGET,
    ),
    _counter(
        "fallback_rounds",
        "rounds",
        "Rounds that had to do without the draft service, by reason.",
        _TARGET,
        reason=("lost", "late", "mismatch", "refused", "empty", "cheaper"),
    ),
    _gauge(
        "drafts",
        "services",
        "Draft services of the configuration, by what the last sequence found: mismatch is "
        "another vocabulary.",
        _TARGET,
        state=DRAFT_STATES,
    ),
    _counter(
        "discarded_blocks",
        "blocks",
        "Blocks of no use: of an earlier session, on tokens no longer the last, not what came, "
        "too many, invalid.",
        _TARGET,
        reason=("epoch", "stale", "unused", "too_many", "invalid"),
    ),
    _seconds(
        "draft_round_trip",
        "From a commit to the block that was used, draft and network together.",
        _TARGET,
    ),
    _counter("draft_hidden_seconds", "seconds", "Of that time, what nobody waited for.", _TARGET),
    _seconds("draft_wait", "Of that time, what the round waited for.", _TARGET),
    _counter(
        "outcome_hits",
        "rounds",
        "Verifications that went as drafted ahead for: no round trip, and no wait if that was "
        "there in time.",
        _TARGET,
        arrival=("in_time", "late"),
    ),
    _counter(
        "outcome_misses",
        "rounds",
        "Verifications that found nothing drafted ahead: not among the outcomes, or not "
        "there in time.",
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
    _counter(
        "draft_cancelled", "proposals", "Proposals given up because a commit overtook them.", _DRAFT
    ),
    _seconds(
        "propose",
        "From a commit to the proposal that the target waits for, inside the draft.",
        _DRAFT,
    ),
    _seconds(
        "draft_ahead",
        "From knowing what is verified to outcomes of that, inside the draft.",
        _DRAFT,
    ),
    _counter("draft_outcomes", "outcomes", "Outcomes drafted ahead for, and pushed.", _DRAFT),
    _counter(
        "draft_wasted_tokens", "tokens", "Tokens pushed for outcomes that did not come.", _DRAFT
    ),
    # The client.
    _counter(
        "client_requests",
        "calls",
        "Generations, by outcome: ok, cancelled by the caller, or gRPC's name of what went wrong.",
        _CLIENT,
        outcome=tuple(code.name.lower() for code in grpc.StatusCode),
    ),
    _counter("client_tokens", "tokens", "Tokens received.", _CLIENT),
    _counter("client_rounds", "rounds", "Rounds of the target's, as results tell.", _CLIENT),
    _counter("client_draft_tokens", "tokens", "Tokens proposed, as results tell.", _CLIENT),
    *_accepted("client_accepted_tokens", "Proposed tokens accepted, as results tell.", _CLIENT),
    _seconds(
        "client_time_to_first_token",
        "From the call to its first tokens, retries included.",
        _CLIENT,
    ),
    _seconds("client_inter_chunk", "Between two chunks of a call.", _CLIENT),
    _seconds(
        "client_inter_token_latency",
        "A token's share of the time between two chunks.",
        _CLIENT,
        buckets=_TOKEN_SECONDS,
    ),
    _seconds("client_request", "Length of a call, retries included.", _CLIENT),
)

# Where vLLM has the signal: its name, for people who bring their dashboards.
VLLM: Mapping[str, str] = MappingProxyType(
    {
        "foredraft_kv_cache_usage_ratio": "vllm:kv_cache_usage_perc",
        "foredraft_step_tokens": "vllm:iteration_tokens_total",
        **{
            f"foredraft_{name}": f"vllm:{name}"
            for name in (
                "num_requests_running",
                "num_requests_waiting",
                "request_success_total",
                "prompt_tokens_total",
                "generation_tokens_total",
                "prefix_cache_queries_total",
                "prefix_cache_hits_total",
                "request_prompt_tokens",
                "request_generation_tokens",
                "request_queue_time_seconds",
                "request_prefill_time_seconds",
                "request_decode_time_seconds",
                "time_to_first_token_seconds",
                "inter_token_latency_seconds",
                "e2e_request_latency_seconds",
                "spec_decode_num_drafts_total",
                "spec_decode_num_draft_tokens_total",
                "spec_decode_num_accepted_tokens_total",
                "spec_decode_num_accepted_tokens_per_pos_total",
            )
        },
    }
)
