"""The metrics of the engine, which both services have."""

from foredraft.catalog.metric import DRAFT, SERVICES, TARGET, gauge, seconds, tokens

ENGINE = (
    gauge(
        "info",
        "none",
        "Is always 1; its labels say what the process serves.",
        SERVICES,
        version=(),
        model=(),
        device=(),
        dtype=(),
    ),
    gauge("rows", "rows", "Rows of the cache.", SERVICES),
    gauge("rows_in_use", "rows", "Rows of the cache that sequences hold.", SERVICES),
    gauge(
        "kv_cache_usage_ratio",
        "ratio",
        "The share of all places of all rows that running sequences fill.",
        SERVICES,
    ),
    gauge("num_requests_waiting", "sequences", "Sequences that wait for a row.", SERVICES),
    seconds(
        "step",
        "Time of a step, by part: waiting for work, the forward pass, verification.",
        TARGET,
        part=("waiting", "forward", "verification"),
    ),
    seconds(
        "step",
        "Time of a step, by part: waiting for work, the forward pass, drawing tokens.",
        DRAFT,
        part=("waiting", "forward", "drawing"),
    ),
    tokens("step", "New tokens in a step.", SERVICES),
)
