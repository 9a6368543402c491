"""The panels of what drafts gain."""

from deploy.monitoring.panels import BY_JOB, JOB, RATE, Panel, rate, record

PANELS = (
    Panel(
        "Acceptance rate",
        "percentunit",
        "Accepted tokens divided by proposed ones.",
        ((record("acceptance_rate"), BY_JOB),),
    ),
    Panel(
        "Acceptance by position",
        "percentunit",
        "The share of proposals accepted up to this position.",
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
        "1 + accepted / rounds, and the number of proposed tokens.",
        (
            (record("mean_acceptance_length"), "1 + accepted"),
            (f"{rate('spec_decode_num_draft_tokens_total')} / {rate('rounds_total')}", "proposed"),
        ),
    ),
    Panel(
        "Drafted ahead",
        "percentunit",
        "Hit rate, and the share of draft and network time that nobody waited for.",
        ((record("outcome_hit_ratio"), "hits"), (record("draft_hidden_ratio"), "time hidden")),
    ),
    Panel(
        "Hits and misses",
        "ops",
        "Rounds whose outcome was drafted ahead, and those whose outcome was not.",
        (
            (rate("outcome_hits_total", "arrival"), "hit: {{arrival}}"),
            (rate("outcome_misses_total", "reason"), "miss: {{reason}}"),
        ),
    ),
    Panel(
        "Fallback rounds",
        "ops",
        "Rounds that went on without the draft service, by reason.",
        ((rate("fallback_rounds_total", "reason"), "{{reason}}"),),
    ),
    Panel(
        "Alternatives",
        "ops",
        "Alternatives verified and accepted.",
        (
            (rate("spec_decode_num_alternative_tokens_total"), "verified"),
            (rate("spec_decode_num_accepted_alternatives_total"), "accepted"),
        ),
    ),
    Panel(
        "Response formats",
        "reqps",
        "Calls with a response format, by how their grammar came.",
        ((rate("grammars_total", "result"), "{{result}}"),),
    ),
    Panel(
        "Forced tokens",
        "ops",
        "Accepted tokens that the target proposed because a response format left no choice.",
        ((rate("forced_tokens_total"), "forced"),),
    ),
)
