"""The panels of the times that callers of the target wait."""

from deploy.monitoring.panels import JOB, Panel, times

PANELS = (
    times(
        "Time to first token",
        "time_to_first_token",
        "Time from admission to the first token of a sequence.",
    ),
    times(
        "Between tokens", "inter_token_latency", "A token's share of the time between two chunks."
    ),
    times("Between chunks", "inter_chunk", "Time that a reader of the stream waits."),
    times("Whole requests", "e2e_request_latency", "Time from admission to the end of a sequence."),
    times("In the queue", "request_queue_time", "Time from admission to a row."),
    times("Prefill", "request_prefill_time", "Time from a row to the first token."),
    times("Decode", "request_decode_time", "Time from the first to the last token."),
    Panel(
        "Slow first tokens",
        "percentunit",
        "The share of sequences over the objective of one second, in four windows.",
        tuple(
            (f"foredraft:slow_first_tokens_ratio:{w}{{{JOB}}}", w)
            for w in ("5m", "30m", "1h", "6h")
        ),
    ),
)
