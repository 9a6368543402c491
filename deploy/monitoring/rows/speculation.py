"""What drafts are worth."""

from deploy.monitoring.panels import BY_JOB, JOB, RATE, Panel, rate, record

PANELS = (
    Panel(
        "Acceptance rate",
        "percentunit",
        "Accepted of proposed tokens.",
        ((record("acceptance_rate"), BY_JOB),),
    ),
    Panel(
        "Acceptance by position",
        "percentunit",
        "Of all proposals, those accepted at least so far.",
        (
            (
                f"{rate('spec_decode_num_accepted_tokens_per_pos_total', 'position')} / "
                "ignoring (position) "
                "group_left "
                f"sum(rate(foredraft_spec_decode_num_drafts_total{{{JOB}}}[{RATE}])) > 0",
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
)
