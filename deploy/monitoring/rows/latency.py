"""What callers of the target wait for."""

from deploy.monitoring.panels import JOB, Panel, times

PANELS = (
    times(
        "Time to first token",
        "time_to_first_token",
        "From admission to the first token of a sequence.",
    ),
    times(
        "Between tokens", "inter_token_latency", "A token's share of the time between two chunks."
    ),
    times("Between chunks", "inter_chunk", "What a reader of the stream waits for."),
    times("Whole requests", "e2e_request_latency", "From admission to the end of a sequence."),
    times("In the queue", "request_queue_time", "From admission to a row."),
    times("Prefill", "request_prefill_time", "From a row to the first token."),
    times("Decode", "request_decode_time", "From the first token to the last."),
    Panel(
        "Slow first tokens",
        "percentunit",
        "Sequences over the objective of a second, in four windows.",
        tuple(
            (f"foredraft:slow_first_tokens_ratio:{w}{{{JOB}}}", w)
            for w in ("5m", "30m", "1h", "6h")
        ),
    ),
)
