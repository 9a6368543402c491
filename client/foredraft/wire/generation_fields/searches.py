"""The generation fields for beam search, diverse beam search and contrastive search."""

from foredraft.wire.field import SHARE, Applier, Field, Kind, Scope, between, within
from foredraft.wire.limits import MAX_BEAMS

SEARCHES = (
    Field(
        35,
        "num_beams",
        Kind.UINT,
        "The number of beams of a beam search; 1 is no beam search",
        applied_by=Applier.DECODING_MODE | Applier.BEAM_SEARCH,
        default=1,
        off=(1,),
        range=between(1, MAX_BEAMS),
    ),
    Field(
        36,
        "length_penalty",
        Kind.FLOAT,
        "The exponent of the length by which the score of a beam is divided",
        applied_by=Applier.BEAM_SEARCH,
        default=1.0,
        off=(1.0,),
        range=within(-8, 8),
        scope=Scope.BEAMS,
    ),
    Field(
        37,
        "early_stopping",
        Kind.EARLY_STOPPING,
        (
            "Ends a beam search when as many texts as beams have ended (true), when a "
            "better text is unlikely (false), or when none can be found ('never')"
        ),
        applied_by=Applier.BEAM_SEARCH,
        off=(False,),
        scope=Scope.BEAMS,
    ),
    Field(
        38,
        "num_beam_groups",
        Kind.UINT,
        "The number of beam groups that are kept diverse; 1 is none",
        applied_by=Applier.DECODING_MODE | Applier.BEAM_SEARCH,
        default=1,
        off=(1,),
        range=between(1, MAX_BEAMS),
    ),
    Field(
        39,
        "diversity_penalty",
        Kind.FLOAT,
        "Subtracted from the score of a token that another group chose in the same step",
        applied_by=Applier.BEAM_SEARCH,
        default=0.0,
        off=(0.0,),
        range=within(0, 1e6),
        scope=Scope.BEAMS,
    ),
    Field(
        40,
        "penalty_alpha",
        Kind.FLOAT,
        (
            "The weight of the degeneration penalty of contrastive search; 0 is no "
            "contrastive search"
        ),
        applied_by=Applier.DECODING_MODE | Applier.CONTRASTIVE_SEARCH,
        off=(0.0,),
        range=SHARE,
    ),
)
