"""The generation fields that add to logits, with the names of OpenAI's API, as vLLM has them."""

from foredraft.wire.field import Applier, Field, Kind, Range

_OPENAI = Range("must be in [-2, 2]", -2.0, 2.0)

ADDITIONS = (
    Field(
        50,
        "frequency_penalty",
        Kind.FLOAT,
        "Subtracted from the logit of a token for each time that the token was generated",
        applied_by=Applier.PROCESSORS,
        in_transformers=False,
        default=0.0,
        off=(0.0,),
        range=_OPENAI,
    ),
    Field(
        51,
        "presence_penalty",
        Kind.FLOAT,
        "Subtracted once from the logit of a token that was generated",
        applied_by=Applier.PROCESSORS,
        in_transformers=False,
        default=0.0,
        off=(0.0,),
        range=_OPENAI,
    ),
    Field(
        52,
        "logit_bias",
        Kind.TOKEN_BIASES,
        "Numbers that are added to the logits of tokens",
        applied_by=Applier.PROCESSORS,
        in_transformers=False,
        range=Range("must be in [-100, 100]; to ban a token use bad_words_ids", -100.0, 100.0),
    ),
)
