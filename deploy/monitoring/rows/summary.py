"""The panels to look at first: whether text flows, and whether drafts help."""

from deploy.monitoring.panels import BY_JOB, JOB, Panel, gauge, rate, record

PANELS = (
    Panel(
        "Tokens",
        "suffix: tok/s",
        "Generated tokens per second.",
        ((rate("generation_tokens_total"), ""),),
        "stat",
    ),
    Panel(
        "Requests running",
        "short",
        "Requests that are admitted and have not ended.",
        ((gauge("num_requests_running"), ""),),
        "stat",
    ),
    Panel(
        "Waiting",
        "short",
        "Sequences that wait for a row.",
        ((gauge("num_requests_waiting"), BY_JOB),),
        "stat",
    ),
    Panel(
        "Acceptance",
        "percentunit",
        "Accepted tokens divided by proposed ones.",
        ((record("acceptance_rate"), ""),),
        "stat",
    ),
    Panel(
        "Tokens a round",
        "short",
        "1 + accepted / rounds.",
        ((record("mean_acceptance_length"), ""),),
        "stat",
    ),
    Panel(
        "Without the draft",
        "percentunit",
        "The share of rounds that went on without the draft service.",
        ((record("fallback_ratio"), ""),),
        "stat",
    ),
    Panel(
        "Serving",
        "none",
        "The model, version, device and dtype of each service.",
        ((f"sum by (job, model, version, device, dtype) (foredraft_info{{{JOB}}})", ""),),
        "table",
    ),
    Panel(
        "Ends of sequences and requests",
        "reqps",
        "Sequences that ended by themselves, and requests that ended otherwise.",
        (
            (rate("request_success_total", "finished_reason"), "{{finished_reason}}"),
            (rate("request_failure_total", "reason"), "{{reason}}"),
        ),
    ),
)
