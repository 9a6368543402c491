"""The panels of rows and steps, of both services."""

from deploy.monitoring.panels import BY_JOB, JOB, RATE, Panel, gauge, quantiles, rate, times

PANELS = (
    Panel(
        "Rows",
        "short",
        "Rows that sequences hold, and all rows.",
        (
            (gauge("rows_in_use", "job, instance"), "{{job}} {{instance}}"),
            (gauge("rows", "job, instance"), "of"),
        ),
    ),
    Panel(
        "Cache in use",
        "percentunit",
        "The share of all places that running sequences fill.",
        ((f"foredraft_kv_cache_usage_ratio{{{JOB}}}", "{{job}} {{instance}}"),),
    ),
    Panel(
        "Waiting for a row",
        "short",
        "Sequences that wait for a row.",
        ((gauge("num_requests_waiting"), BY_JOB),),
    ),
    Panel(
        "Refused calls",
        "reqps",
        "Calls that were refused because of the load, by the reason.",
        ((rate("requests_refused_total", "reason"), "{{reason}}"),),
    ),
    Panel(
        "Where steps spend their time",
        "percentunit",
        "The share of a process' time, by part of a step.",
        (
            (
                f"avg by (job, part) (rate(foredraft_step_seconds_sum{{{JOB}}}[{RATE}]))",
                "{{job}} {{part}}",
            ),
        ),
    ),
    times("Forward pass", "step", "Time of one forward pass.", ',part="forward"'),
    Panel(
        "Tokens in a step",
        "short",
        "The mean number of tokens in a forward pass.",
        ((f"{rate('step_tokens_sum')} / {rate('step_tokens_count')}", BY_JOB),),
    ),
    Panel(
        "Prompt tokens",
        "suffix: tok/s",
        "Prompt tokens of sequences that got a row.",
        ((rate("prompt_tokens_total"), BY_JOB),),
    ),
    Panel(
        "Prompts found",
        "percentunit",
        "The share of prompt tokens that a row held already.",
        ((f"{rate('prefix_cache_hits_total')} / {rate('prefix_cache_queries_total')}", BY_JOB),),
    ),
    Panel("Length of prompts", "short", "Length in tokens.", quantiles("request_prompt_tokens")),
    Panel("Length of texts", "short", "Length in tokens.", quantiles("request_generation_tokens")),
)
