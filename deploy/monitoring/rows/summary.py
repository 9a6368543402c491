"""Whether text flows, and whether drafts help: what to look at first."""

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
        "Admitted and not yet ended.",
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
        "Accepted of proposed tokens.",
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
        "Rounds that fell back.",
        ((record("fallback_ratio"), ""),),
        "stat",
    ),
    Panel(
        "Serving",
        "none",
        "What the services were started with.",
        ((f"sum by (job, model, version, device, dtype) (foredraft_info{{{JOB}}})", ""),),
        "table",
    ),
    Panel(
        "Ends of sequences and requests",
        "reqps",
        "How they ended: sequences by themselves, requests otherwise.",
        (
            (rate("request_success_total", "finished_reason"), "{{finished_reason}}"),
            (rate("request_failure_total", "reason"), "{{reason}}"),
        ),
    ),
)
