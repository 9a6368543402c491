"""The metrics of the draft service."""

from foredraft.catalog.metric import DRAFT, DRAFTERS, accepted, counter, gauge, seconds

DRAFTING = (
    gauge("draft_sessions", "sequences", "Sequences that are followed now.", DRAFT),
    counter(
        "draft_requests",
        "sequences",
        "Sequences by outcome: done when the target left, refused because of load, or because of "
        "who called.",
        DRAFT,
        outcome=("done", "invalid", "error", "refused"),
    ),
    counter("draft_rounds", "rounds", "Commits received, one for each round of the target.", DRAFT),
    counter("draft_blocks", "blocks", "Blocks sent.", DRAFT, drafter=DRAFTERS),
    counter("draft_tokens", "tokens", "Tokens proposed.", DRAFT, drafter=DRAFTERS),
    *accepted("draft_accepted_tokens", "Proposed tokens that commits report as accepted.", DRAFT),
    counter(
        "draft_cancelled", "proposals", "Proposals given up because a commit overtook them.", DRAFT
    ),
    seconds(
        "propose",
        "Time in the draft from a commit to the proposal that the target waits for.",
        DRAFT,
    ),
    seconds(
        "draft_ahead",
        "Time in the draft from a verified proposal to the outcomes drafted for it.",
        DRAFT,
    ),
    counter("draft_outcomes", "outcomes", "Outcomes that were drafted ahead and pushed.", DRAFT),
    counter(
        "draft_wasted_tokens", "tokens", "Tokens pushed for outcomes that did not come.", DRAFT
    ),
)
