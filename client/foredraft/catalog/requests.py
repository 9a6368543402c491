"""The metrics of the requests of the target service."""

from foredraft.catalog.metric import TARGET, TOKEN_SECONDS, counter, gauge, seconds, tokens
from foredraft.wire.api_tokens import TOKEN_LIMITS

REQUESTS = (
    gauge("num_requests_running", "requests", "Requests admitted and not yet ended.", TARGET),
    counter(
        "request_success",
        "sequences",
        "Sequences that ended by themselves.",
        TARGET,
        finished_reason=("length", "eos_token", "stop_string", "max_time"),
    ),
    counter(
        "request_failure",
        "requests",
        "Requests that ended otherwise: left by the caller, out of time, invalid, failed, refused "
        "because of load, not read, beyond a limit of their token, without a credential.",
        TARGET,
        reason=(
            *("cancelled", "deadline", "invalid", "error", "overloaded", "unread", "limited"),
            "unauthenticated",
        ),
    ),
    counter(
        "requests_refused",
        "requests",
        "Requests refused because of load: by a full queue, the memory of waiting requests, a "
        "deadline that would pass, a full pool of threads. Also by a limit of their token, and for "
        "want of a credential.",
        TARGET,
        reason=(
            *("queue", "bytes", "deadline", "planning", "grammars", "detection", "configs"),
            *("credentials", *TOKEN_LIMITS),
        ),
    ),
    counter(
        "prompt_tokens", "tokens", "Tokens of the prompts of sequences that got a row.", TARGET
    ),
    counter(
        "grammars",
        "calls",
        "Calls with a response format, by how its grammar came: it was compiled, or kept for its "
        "owner, or refused.",
        TARGET,
        result=("compiled", "kept", "refused"),
    ),
    counter("generation_tokens", "tokens", "Generated tokens.", TARGET),
    counter(
        "prefix_cache_queries",
        "tokens",
        "Prompt tokens that were looked up in rows.",
        TARGET,
    ),
    counter(
        "prefix_cache_hits",
        "tokens",
        "Prompt tokens that a row held already, so that they were not fed.",
        TARGET,
    ),
    tokens("request_prompt", "Length of the prompt of a sequence that ended by itself.", TARGET),
    tokens("request_generation", "Length of the text of a sequence that ended by itself.", TARGET),
    seconds("request_queue_time", "Time from a sequence's admission to its row.", TARGET),
    seconds("request_prefill_time", "Time from a sequence's row to its first token.", TARGET),
    seconds(
        "request_decode_time",
        "Time from the first to the last token of a sequence that ended by itself.",
        TARGET,
    ),
    seconds("time_to_first_token", "Time from a sequence's admission to its first token.", TARGET),
    seconds("inter_chunk", "Time between two chunks of a sequence.", TARGET),
    seconds(
        "inter_token_latency",
        "A token's share of the time between two chunks.",
        TARGET,
        buckets=TOKEN_SECONDS,
    ),
    seconds(
        "e2e_request_latency",
        "Time from admission to the end of a sequence that ended by itself.",
        TARGET,
    ),
)
