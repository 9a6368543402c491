"""What the dashboard shows, row by row.

Expressions name metrics of `foredraft.catalog` and records of rules.yml; `$namespace` and `$job`
choose what is shown.
"""

from deploy.monitoring.panels import JOB, RATE, Panel, gauge, quantiles, rate, record, times

_BY_JOB = "{{job}}"
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Summary",
        (
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
                ((gauge("num_requests_waiting"), _BY_JOB),),
                "stat",
            ),
            Panel(
                "Acceptance", "percentunit", "Accepted of proposed tokens.", ((record("acceptance_rate"), ""),), "stat"
            ),
            Panel(
                "Tokens a round", "short", "1 + accepted / rounds.", ((record("mean_acceptance_length"), ""),), "stat"
            ),
            Panel(
                "Without the draft", "percentunit", "Rounds that fell back.", ((record("fallback_ratio"), ""),), "stat"
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
        ),
    ),
    (
        "Latency",
        (
            times("Time to first token", "time_to_first_token", "From admission to the first token of a sequence."),
            times("Between tokens", "inter_token_latency", "A token's share of the time between two chunks."),
            times("Between chunks", "inter_chunk", "What a reader of the stream waits for."),
            times("Whole requests", "e2e_request_latency", "From admission to the end of a sequence."),
            times("In the queue", "request_queue_time", "From admission to a row."),
            times("Prefill", "request_prefill_time", "From a row to the first token."),
            times("Decode", "request_decode_time", "From the first token to the last."),
            Panel(
                "Slow first tokens",
                "percentunit",
                "Sequences over the objective of a second, in four windows.",
                tuple((f"foredraft:slow_first_tokens_ratio:{w}{{{JOB}}}", w) for w in ("5m", "30m", "1h", "6h")),
            ),
        ),
    ),
    (
        "Speculation",
        (
            Panel(
                "Acceptance rate",
                "percentunit",
                "Accepted of proposed tokens.",
                ((record("acceptance_rate"), _BY_JOB),),
            ),
            Panel(
                "Acceptance by position",
                "percentunit",
                "Of all proposals, those accepted at least so far.",
                (
                    (
                        f"{rate('spec_decode_num_accepted_tokens_per_pos_total', 'position')} / ignoring (position) "
                        f"group_left sum(rate(foredraft_spec_decode_num_drafts_total{{{JOB}}}[{RATE}])) > 0",
                        "{{position}}",
                    ),
                ),
            ),
            Panel(
                "Tokens a round",
                "short",
                "1 + accepted / rounds, and how many were proposed.",
                (
                    (record("mean_acceptance_length"), "accepted, and one"),
                    (f"{rate('spec_decode_num_draft_tokens_total')} / {rate('rounds_total')}", "proposed"),
                ),
            ),
            Panel(
                "Drafted ahead",
                "percentunit",
                "Verifications that went as drafted ahead for; draft and network time nobody waited for.",
                ((record("outcome_hit_ratio"), "hits"), (record("draft_hidden_ratio"), "time hidden")),
            ),
            Panel(
                "Hits and misses",
                "ops",
                "Rounds whose proposal was there before it was asked for, or was not, and why.",
                (
                    (rate("outcome_hits_total", "arrival"), "hit: {{arrival}}"),
                    (rate("outcome_misses_total", "reason"), "miss: {{reason}}"),
                ),
            ),
            Panel(
                "Fallback rounds",
                "ops",
                "Rounds that had to do without the draft service, by reason.",
                ((rate("fallback_rounds_total", "reason"), "{{reason}}"),),
            ),
            Panel(
                "Alternatives",
                "ops",
                "Tokens verified beside proposals, and those that stood.",
                (
                    (rate("spec_decode_num_alternative_tokens_total"), "verified"),
                    (rate("spec_decode_num_accepted_alternatives_total"), "accepted"),
                ),
            ),
        ),
    ),
    (
        "Engine",
        (
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
            Panel("Waiting for a row", "short", "Sequences.", ((gauge("num_requests_waiting"), _BY_JOB),)),
            Panel(
                "Where steps spend their time",
                "percentunit",
                "Seconds of each second, of a process: waiting for work, forward pass, verifying or drawing.",
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
                ((f"{rate('step_tokens_sum')} / {rate('step_tokens_count')}", _BY_JOB),),
            ),
            Panel(
                "Prompt tokens",
                "suffix: tok/s",
                "Of sequences that got a row.",
                ((rate("prompt_tokens_total"), _BY_JOB),),
            ),
            Panel(
                "Prompts found",
                "percentunit",
                "Of the tokens of prompts, those that were not fed, since a row held them.",
                ((f"{rate('prefix_cache_hits_total')} / {rate('prefix_cache_queries_total')}", _BY_JOB),),
            ),
            Panel("Length of prompts", "short", "In tokens.", quantiles("request_prompt_tokens")),
            Panel("Length of texts", "short", "In tokens.", quantiles("request_generation_tokens")),
        ),
    ),
    (
        "Drafts",
        (
            Panel("Draft services", "short", "As the targets found them.", ((gauge("drafts", "state"), "{{state}}"),)),
            times("Round trip", "draft_round_trip", "From a commit to the block that was used."),
            times("Waited for", "draft_wait", "Of the round trip, what the round waited for."),
            times("Proposing", "propose", "From a commit to its proposal, inside the draft."),
            times(
                "Drafting ahead", "draft_ahead", "From knowing what is verified to outcomes of that, inside the draft."
            ),
            Panel(
                "Wasted",
                "percentunit",
                "Tokens pushed for outcomes that did not come, of all drafted.",
                ((record("wasted_draft_ratio"), _BY_JOB),),
            ),
            Panel(
                "Bytes a round",
                "bytes",
                "Between target and draft, by direction.",
                (
                    (
                        f"{rate('draft_bytes_total', 'direction')} / ignoring (direction) group_left "
                        f"sum(rate(foredraft_rounds_total{{{JOB}}}[{RATE}]))",
                        "{{direction}}",
                    ),
                ),
            ),
            Panel(
                "Discarded blocks",
                "ops",
                "Blocks of no use, by reason.",
                ((rate("discarded_blocks_total", "reason"), "{{reason}}"),),
            ),
            Panel(
                "Sequences followed",
                "short",
                "By draft service; and commits per second.",
                ((gauge("draft_sessions", "instance"), "{{instance}}"), (rate("draft_rounds_total"), "commits")),
            ),
            Panel(
                "Blocks",
                "ops",
                "Sent, by what drafted; proposals given up because a commit overtook them.",
                ((rate("draft_blocks_total", "drafter"), "{{drafter}}"), (rate("draft_cancelled_total"), "given up")),
            ),
            Panel(
                "Sequences that ended",
                "ops",
                "By how: the target is done when it leaves.",
                ((rate("draft_requests_total", "outcome"), "{{outcome}}"),),
            ),
        ),
    ),
    (
        "Clients",
        (
            Panel("Calls", "reqps", "By outcome.", ((rate("client_requests_total", "outcome"), "{{outcome}}"),)),
            times("Time to first token, as callers see it", "client_time_to_first_token", "Retries included."),
            times(
                "Between tokens, as callers see it",
                "client_inter_token_latency",
                "A token's share of the time between chunks.",
            ),
            times("Whole calls", "client_request", "Retries included."),
            Panel("Tokens received", "suffix: tok/s", "By clients.", ((rate("client_tokens_total"), _BY_JOB),)),
            Panel(
                "Acceptance, as results tell",
                "percentunit",
                "Accepted of proposed tokens.",
                ((f"{rate('client_accepted_tokens_total')} / {rate('client_draft_tokens_total')}", _BY_JOB),),
            ),
        ),
    ),
)
