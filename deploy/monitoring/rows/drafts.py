"""The panels of the draft services and the way to them."""

from deploy.monitoring.panels import BY_JOB, JOB, RATE, Panel, gauge, rate, record, times

PANELS = (
    Panel(
        "Draft services",
        "short",
        "Draft services by the state that targets found.",
        ((gauge("drafts", "state"), "{{state}}"),),
    ),
    times("Round trip", "draft_round_trip", "Time from a commit to the block that was used."),
    times("Waited for", "draft_wait", "The part of the round trip for which the round waited."),
    times("Proposing", "propose", "Time in the draft from a commit to its proposal."),
    times(
        "Drafting ahead",
        "draft_ahead",
        "Time in the draft from a verified proposal to its outcomes.",
    ),
    Panel(
        "Wasted",
        "percentunit",
        "The share of drafted tokens that were pushed for outcomes that did not come.",
        ((record("wasted_draft_ratio"), BY_JOB),),
    ),
    Panel(
        "Bytes a round",
        "bytes",
        "Bytes between target and draft, by direction.",
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
        "Blocks that were not used, by reason.",
        ((rate("discarded_blocks_total", "reason"), "{{reason}}"),),
    ),
    Panel(
        "Sequences followed",
        "short",
        "Sequences by draft service, and commits per second.",
        (
            (gauge("draft_sessions", "instance"), "{{instance}}"),
            (rate("draft_rounds_total"), "commits"),
        ),
    ),
    Panel(
        "Blocks",
        "ops",
        "Blocks by drafter, and proposals that a commit overtook.",
        (
            (rate("draft_blocks_total", "drafter"), "{{drafter}}"),
            (rate("draft_cancelled_total"), "given up"),
        ),
    ),
    Panel(
        "Sequences that ended",
        "ops",
        "Sequences by outcome; done when the target left.",
        ((rate("draft_requests_total", "outcome"), "{{outcome}}"),),
    ),
)
