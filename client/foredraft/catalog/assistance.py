"""The metrics of assistance, as the target service sees it."""

from foredraft.catalog.metric import DRAFT_STATES, TARGET, accepted, counter, gauge, seconds

ASSISTANCE = (
    counter("rounds", "rounds", "Verifications and plain decoding steps.", TARGET),
    counter("spec_decode_num_drafts", "proposals", "Proposals verified.", TARGET),
    counter("spec_decode_num_draft_tokens", "tokens", "Tokens proposed.", TARGET),
    *accepted(
        "spec_decode_num_accepted_tokens",
        "Proposed tokens accepted, alternatives among them.",
        TARGET,
    ),
    counter("spec_decode_num_alternative_tokens", "tokens", "Alternatives verified.", TARGET),
    counter(
        "spec_decode_num_accepted_alternatives",
        "tokens",
        "Alternatives accepted.",
        TARGET,
    ),
    counter(
        "forced_tokens",
        "tokens",
        "Accepted tokens that the target proposed because a response format left no choice.",
        TARGET,
    ),
    counter(
        "fallback_rounds",
        "rounds",
        "Rounds that went on without the draft service, by reason.",
        TARGET,
        reason=("lost", "late", "mismatch", "refused", "empty", "cheaper"),
    ),
    gauge(
        "drafts",
        "services",
        "Configured draft services, by the state that the last sequence found.",
        TARGET,
        state=DRAFT_STATES,
    ),
    counter(
        "discarded_blocks",
        "blocks",
        "Blocks that were not used, by reason.",
        TARGET,
        reason=("epoch", "stale", "unused", "too_many", "invalid"),
    ),
    seconds(
        "draft_round_trip",
        "Time from a commit to the block that was used, draft and network together.",
        TARGET,
    ),
    counter(
        "draft_hidden_seconds", "seconds", "Draft and network time for which nobody waited.", TARGET
    ),
    seconds("draft_wait", "Draft and network time for which the round waited.", TARGET),
    counter(
        "outcome_hits",
        "rounds",
        "Verifications whose outcome was drafted ahead, by when the block arrived.",
        TARGET,
        arrival=("in_time", "late"),
    ),
    counter(
        "outcome_misses",
        "rounds",
        "Verifications whose outcome was not drafted ahead, by reason.",
        TARGET,
        reason=("unforeseen", "late"),
    ),
    counter(
        "draft_bytes",
        "bytes",
        "Messages between target and draft, by direction.",
        TARGET,
        direction=("sent", "received"),
    ),
)
