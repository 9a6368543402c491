"""The draft services, and the way to them."""

from deploy.monitoring.panels import BY_JOB, JOB, RATE, Panel, gauge, rate, record, times

PANELS = (
    Panel(
        "Draft services",
        "short",
        "As the targets found them.",
        ((gauge("drafts", "state"), "{{state}}"),),
    ),
    times("Round trip", "draft_round_trip", "From a commit to the block that was used."),
    times("Waited for", "draft_wait", "Of the round trip, what the round waited for."),
    times("Proposing", "propose", "From a commit to its proposal, inside the draft."),
    times(
        "Drafting ahead",
        "draft_ahead",
        "From knowing what is verified to outcomes of that, inside the draft.",
    ),
    Panel(
        "Wasted",
        "percentunit",
        "Tokens pushed for outcomes that did not come, of all drafted.",
        ((record("wasted_draft_ratio"), BY_JOB),),
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
        (
            (gauge("draft_sessions", "instance"), "{{instance}}"),
            (rate("draft_rounds_total"), "commits"),
        ),
    ),
    Panel(
        "Blocks",
        "ops",
        "Sent, by what drafted; proposals given up because a commit overtook them.",
        (
            (rate("draft_blocks_total", "drafter"), "{{drafter}}"),
            (rate("draft_cancelled_total"), "given up"),
        ),
    ),
    Panel(
        "Sequences that ended",
        "ops",
        "By how: the target is done when it leaves.",
        ((rate("draft_requests_total", "outcome"), "{{outcome}}"),),
    ),
)
