"""The panels of the SDK."""

from deploy.monitoring.panels import BY_JOB, Panel, rate, times

PANELS = (
    Panel(
        "Calls",
        "reqps",
        "Calls per second, by outcome.",
        ((rate("client_requests_total", "outcome"), "{{outcome}}"),),
    ),
    times(
        "Time to first token, as callers see it", "client_time_to_first_token", "Retries included."
    ),
    times(
        "Between tokens, as callers see it",
        "client_inter_token_latency",
        "A token's share of the time between chunks.",
    ),
    times("Whole calls", "client_request", "Retries included."),
    Panel(
        "Tokens received",
        "suffix: tok/s",
        "Tokens that clients receive.",
        ((rate("client_tokens_total"), BY_JOB),),
    ),
    Panel(
        "Acceptance, as results tell",
        "percentunit",
        "Accepted tokens divided by proposed ones.",
        (
            (
                f"{rate('client_accepted_tokens_total')} / {rate('client_draft_tokens_total')}",
                BY_JOB,
            ),
        ),
    ),
)
