"""The generation fields for lengths, time and stop strings."""

from foredraft.wire.field import Applier, Field, Kind, at_least, positive

LENGTHS = (
    Field(
        1,
        "max_length",
        Kind.UINT,
        "The largest number of prompt and new tokens together",
        applied_by=Applier.LENGTHS | Applier.PROCESSORS,
        range=at_least(1),
    ),
    Field(
        2,
        "max_new_tokens",
        Kind.UINT,
        "The largest number of new tokens; it wins over `max_length`",
        applied_by=Applier.LENGTHS,
        range=at_least(1),
    ),
    Field(
        3,
        "min_length",
        Kind.UINT,
        "No end-of-sequence token comes before this number of prompt and new tokens",
        applied_by=Applier.LENGTHS | Applier.PROCESSORS,
        default=0,
        off=(0,),
    ),
    Field(
        4,
        "min_new_tokens",
        Kind.UINT,
        (
            "No end-of-sequence token comes before this number of new tokens; it wins over "
            "`min_length`"
        ),
        applied_by=Applier.LENGTHS | Applier.PROCESSORS,
        off=(0,),
    ),
    Field(
        5,
        "max_time",
        Kind.FLOAT,
        (
            "The number of seconds from admission after which generation ends, checked "
            "between rounds"
        ),
        applied_by=Applier.STOP_CONDITIONS,
        range=positive("a positive number of seconds"),
    ),
    Field(
        6,
        "stop_strings",
        Kind.STRINGS,
        "Generation ends with the token that completes one of these strings",
        applied_by=Applier.STOP_CONDITIONS,
    ),
)
