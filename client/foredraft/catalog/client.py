"""The metrics of the SDK."""

import grpc

from foredraft.catalog.metric import CLIENT, TOKEN_SECONDS, accepted, counter, seconds

CLIENT_CALLS = (
    counter(
        "client_requests",
        "calls",
        "Generations, by outcome: ok, cancelled by the caller, or the gRPC status.",
        CLIENT,
        outcome=tuple(code.name.lower() for code in grpc.StatusCode),
    ),
    counter("client_tokens", "tokens", "Tokens received.", CLIENT),
    counter("client_rounds", "rounds", "Rounds of the target that results report.", CLIENT),
    counter("client_draft_tokens", "tokens", "Proposed tokens that results report.", CLIENT),
    *accepted("client_accepted_tokens", "Accepted tokens that results report.", CLIENT),
    seconds(
        "client_time_to_first_token",
        "Time from the call to its first tokens, retries included.",
        CLIENT,
    ),
    seconds("client_inter_chunk", "Time between two chunks of a call.", CLIENT),
    seconds(
        "client_inter_token_latency",
        "A token's share of the time between two chunks.",
        CLIENT,
        buckets=TOKEN_SECONDS,
    ),
    seconds("client_request", "Time of a call, retries included.", CLIENT),
)
