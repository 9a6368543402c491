"""Rows and steps, of both services."""

from deploy.monitoring.panels import BY_JOB, JOB, RATE, Panel, gauge, quantiles, rate, times

PANELS = (
    Panel(
        "Rows",
        "short",
        "Rows on loan, and all rows.",
        (
            (gauge("rows_in_use", "job, instance"), "{{job}} {{instance}}"),
            (gauge("rows", "job, instance"), "of"),
        ),
    ),
    Panel(
        "Cache in use",
        "percentunit",
        "Of all places of all rows, those that live sequences fill.",
        ((f"foredraft_kv_cache_usage_ratio{{{JOB}}}", "{{job}} {{instance}}"),),
    ),
    Panel("Waiting for a row", "short", "Sequences.", ((gauge("num_requests_waiting"), BY_JOB),)),
    Panel(
        "Where steps spend their time",
        "percentunit",
        "Seconds of each second, of a process: waiting for work, forward pass, verifying "
        "or drawing.",
        (
            (
                f"avg by (job, part) (rate(foredraft_step_seconds_sum{{{JOB}}}[{RATE}]))",
                "{{job}} {{part}}",
            ),
        ),
    ),
    times("Forward pass", "step", "Of one step.", ',part="forward"'),
    Panel(
        "Tokens in a step",
        "short",
        "Mean of new tokens that share a forward pass.",
        ((f"{rate('step_tokens_sum')} / {rate('step_tokens_count')}", BY_JOB),),
    ),
    Panel(
        "Prompt tokens",
        "suffix: tok/s",
        "Of sequences that got a row.",
        ((rate("prompt_tokens_total"), BY_JOB),),
    ),
    Panel(
        "Prompts found",
        "percentunit",
        "Of the tokens of prompts, those that were not fed, since a row held them.",
        ((f"{rate('prefix_cache_hits_total')} / {rate('prefix_cache_queries_total')}", BY_JOB),),
    ),
    Panel("Length of prompts", "short", "In tokens.", quantiles("request_prompt_tokens")),
    Panel("Length of texts", "short", "In tokens.", quantiles("request_generation_tokens")),
)
