"""The generation fields for drafting: the length of proposals, and prompt lookup."""

from foredraft.wire.field import SHARE, Applier, Field, Kind, Scope, at_most, between
from foredraft.wire.limits import MAX_DRAFT_LENGTH, MAX_NGRAM

SCHEDULES = ("goodput", "constant", "heuristic", "heuristic_transient")
"""The values of `num_assistant_tokens_schedule`."""

DRAFTING = (
    Field(
        30,
        "num_assistant_tokens",
        Kind.UINT,
        (
            "The number of tokens drafted in a round, or its bound under the schedule "
            "`goodput`; 0 is plain decoding"
        ),
        applied_by=Applier.DRAFTING,
        default=20,
        off=(0,),
        range=at_most(MAX_DRAFT_LENGTH),
        scope=Scope.NO_SEARCH,
    ),
    Field(
        31,
        "num_assistant_tokens_schedule",
        Kind.STRING,
        (
            "`constant`; `heuristic`: two more after a proposal accepted whole, one less "
            "otherwise, kept from call to call; `heuristic_transient`: the same, but every "
            "call begins anew; `goodput`: the fastest length, and the default if "
            "`num_assistant_tokens` is not set"
        ),
        applied_by=Applier.DRAFTING,
        off=("constant", "goodput"),
        choices=SCHEDULES,
        scope=Scope.DRAFT_MODEL,
    ),
    Field(
        32,
        "assistant_confidence_threshold",
        Kind.FLOAT,
        "A proposal ends after a token to which the draft gave a lower probability",
        applied_by=Applier.DRAFTING,
        default=0.4,
        off=(0.0, 0.4),
        range=SHARE,
        scope=Scope.DRAFT_MODEL,
    ),
    Field(
        33,
        "prompt_lookup_num_tokens",
        Kind.UINT,
        "Drafts by n-gram lookup alone, this number of tokens in a round",
        applied_by=Applier.DRAFTING,
        range=between(1, MAX_DRAFT_LENGTH, "; leave it out for no lookup"),
        scope=Scope.NO_SEARCH,
    ),
    Field(
        34,
        "max_matching_ngram_size",
        Kind.UINT,
        (
            "The longest n-gram that is looked up; by default 2 with "
            "`prompt_lookup_num_tokens` and 16 without it"
        ),
        applied_by=Applier.DRAFTING,
        range=between(1, MAX_NGRAM),
    ),
)
