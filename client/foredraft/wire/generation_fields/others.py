"""The generation fields for guidance, token healing, watermarks, caches, output and formats."""

from foredraft.wire.field import Applier, Field, Kind, Scope, within

OTHERS = (
    Field(
        41,
        "guidance_scale",
        Kind.FLOAT,
        "The scale of classifier-free guidance away from the negative prompt; 1 is none",
        applied_by=Applier.GUIDANCE,
        off=(1.0,),
        range=within(0, 1e4),
        scope=Scope.NO_SEARCH,
    ),
    Field(
        42,
        "exponential_decay_length_penalty",
        Kind.DECAY,
        (
            "After `start` new tokens, the end-of-sequence token becomes more likely by "
            "`factor` with every token"
        ),
        applied_by=Applier.PROCESSORS,
        range=within(1e-6, 1e6),
    ),
    Field(
        43,
        "token_healing",
        Kind.BOOL,
        (
            "Replaces the last token of the prompt by one that begins with its text, as the "
            "model prefers"
        ),
        applied_by=Applier.PROMPT,
        off=(False,),
    ),
    Field(
        44,
        "watermarking_config",
        Kind.WATERMARK,
        "Marks the text so that it can be told from others",
        applied_by=Applier.WATERMARK,
    ),
    Field(
        45,
        "use_cache",
        Kind.BOOL,
        "Whether keys and values are kept; true is the only value",
        applied_by=Applier.CACHE,
        off=(True,),
    ),
    Field(
        46,
        "cache_implementation",
        Kind.STRING,
        "How keys and values are kept: `dynamic` or `quantized`",
        applied_by=Applier.CACHE,
        off=("dynamic",),
    ),
    Field(
        47,
        "cache_config",
        Kind.CACHE,
        "The parameters of a quantized cache",
        applied_by=Applier.CACHE,
    ),
    Field(
        48,
        "output_scores",
        Kind.BOOL,
        "Returns the scores by which every token was chosen",
        applied_by=Applier.OUTPUT,
        off=(False,),
        scope=Scope.NO_SEARCH,
    ),
    Field(
        49,
        "output_logits",
        Kind.BOOL,
        "Returns the logits at every token",
        applied_by=Applier.OUTPUT,
        off=(False,),
        scope=Scope.NO_SEARCH,
    ),
    Field(
        60,
        "response_format",
        Kind.RESPONSE_FORMAT,
        "What the text has to be: JSON under a schema, a regular expression, a grammar or a choice",
        applied_by=Applier.GRAMMAR,
        off=({"type": "text"},),
        in_transformers=False,
    ),
)
