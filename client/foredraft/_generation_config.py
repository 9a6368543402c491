"""Generation parameters as a value.

`make generated` makes this file from the table in `foredraft.wire`; do not edit it.

It knows nothing of the wire, nor of which values a field may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from foredraft._response_format import ResponseFormat, SupportsJsonSchema

if TYPE_CHECKING:
    import transformers


SequenceBiases = Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]]
"""Numbers by the token sequences whose last logit they are added to."""
TokenBiases = Mapping[int, float] | Sequence[tuple[int, float]]
"""Numbers by the tokens whose logit they are added to."""


class SupportsToDict(Protocol):
    """An object that turns itself into a dictionary, as transformers' configs do."""

    def to_dict(self) -> dict[str, object]:
        """Returns the values by name."""


class GenerationFields(TypedDict, total=False):
    """The fields of a GenerationConfig as keyword arguments of a call.

    `num_return_sequences` is an argument of its own, since it decides what a call returns.
    """

    max_length: int | None
    max_new_tokens: int | None
    min_length: int | None
    min_new_tokens: int | None
    max_time: float | None
    stop_strings: str | Sequence[str] | None
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    top_h: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    bad_words_ids: Sequence[Sequence[int]] | None
    sequence_bias: SequenceBiases | None
    suppress_tokens: int | Sequence[int] | None
    begin_suppress_tokens: int | Sequence[int] | None
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
    remove_invalid_values: bool | None
    renormalize_logits: bool | None
    eos_token_id: int | Sequence[int] | None
    pad_token_id: int | None
    bos_token_id: int | None
    num_assistant_tokens: int | None
    num_assistant_tokens_schedule: str | None
    assistant_confidence_threshold: float | None
    prompt_lookup_num_tokens: int | None
    max_matching_ngram_size: int | None
    num_beams: int | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    num_beam_groups: int | None
    diversity_penalty: float | None
    penalty_alpha: float | None
    guidance_scale: float | None
    exponential_decay_length_penalty: tuple[int, float] | None
    token_healing: bool | None
    watermarking_config: Mapping[str, object] | SupportsToDict | None
    use_cache: bool | None
    cache_implementation: str | None
    cache_config: Mapping[str, object] | SupportsToDict | None
    output_scores: bool | None
    output_logits: bool | None
    response_format: ResponseFormat | type[SupportsJsonSchema] | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: TokenBiases | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """The parameters of a generation.

    A field that is None has the value of the model's own config, else transformers' default. The
    meanings are those of `transformers.GenerationConfig`, which is accepted wherever this is, and
    for what it lacks those of vLLM. Lengths count tokens, `max_time` counts seconds.

        GenerationConfig(max_new_tokens=64)
        GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9)
        GenerationConfig(stop_strings=["\\n\\n"], eos_token_id=[0, 2])
        GenerationConfig(num_assistant_tokens=0)       # plain decoding
        GenerationConfig(prompt_lookup_num_tokens=10)  # drafts by n-gram lookup alone
    """

    max_length: int | None = None
    """The largest number of prompt and new tokens together."""
    max_new_tokens: int | None = None
    """The largest number of new tokens; it wins over `max_length`."""
    min_length: int | None = None
    """No end-of-sequence token comes before this number of prompt and new tokens."""
    min_new_tokens: int | None = None
    """No end-of-sequence token comes before this number of new tokens; it wins over `min_length`.
    """
    max_time: float | None = None
    """The number of seconds from admission after which generation ends, checked between rounds."""
    stop_strings: str | Sequence[str] | None = None
    """Generation ends with the token that completes one of these strings."""
    do_sample: bool | None = None
    """Whether tokens are sampled (true) or the most likely one is taken (false)."""
    num_return_sequences: int | None = None
    """The number of sequences for each prompt."""
    temperature: float | None = None
    """Divides the logits."""
    top_k: int | None = None
    """Keeps the k most likely tokens; 0 keeps all. Contrastive search ranks this many candidates.
    """
    top_p: float | None = None
    """Keeps the smallest set of most likely tokens whose probability reaches this value."""
    min_p: float | None = None
    """Keeps tokens whose probability is at least this share of the largest one."""
    top_h: float | None = None
    """Keeps tokens within this share of the entropy of the distribution."""
    typical_p: float | None = None
    """Keeps the tokens nearest to the expected information, up to this probability."""
    epsilon_cutoff: float | None = None
    """Keeps tokens of at least this probability."""
    eta_cutoff: float | None = None
    """Works as `epsilon_cutoff`, with a lower limit where the distribution is flat."""
    repetition_penalty: float | None = None
    """Divides positive logits of tokens that occurred before, and multiplies negative ones."""
    no_repeat_ngram_size: int | None = None
    """No n-gram of this size occurs twice."""
    bad_words_ids: Sequence[Sequence[int]] | None = None
    """Token sequences that are never generated."""
    sequence_bias: SequenceBiases | None = None
    """Numbers that are added to the logit of the last token of a sequence."""
    suppress_tokens: int | Sequence[int] | None = None
    """Tokens that are never generated."""
    begin_suppress_tokens: int | Sequence[int] | None = None
    """Tokens that are not generated first."""
    forced_bos_token_id: int | None = None
    """The token that follows a prompt of one token."""
    forced_eos_token_id: int | Sequence[int] | None = None
    """The tokens that are forced at `max_length`."""
    remove_invalid_values: bool | None = None
    """Replaces NaN and infinite logits."""
    renormalize_logits: bool | None = None
    """Normalises the scores after all processors and warpers."""
    eos_token_id: int | Sequence[int] | None = None
    """The tokens that end a sequence; an empty list means that none does."""
    pad_token_id: int | None = None
    """The padding token, which diverse beam search writes after the end of a beam."""
    bos_token_id: int | None = None
    """The beginning-of-sequence token; accepted for configs that carry it."""
    num_assistant_tokens: int | None = None
    """The number of tokens drafted in a round, or its bound under the schedule `goodput`; 0 is
    plain decoding."""
    num_assistant_tokens_schedule: str | None = None
    """`constant`; `heuristic`: two more after a proposal accepted whole, one less otherwise, kept
    from call to call; `heuristic_transient`: the same, but every call begins anew; `goodput`: the
    fastest length, and the default if `num_assistant_tokens` is not set."""
    assistant_confidence_threshold: float | None = None
    """A proposal ends after a token to which the draft gave a lower probability."""
    prompt_lookup_num_tokens: int | None = None
    """Drafts by n-gram lookup alone, this number of tokens in a round."""
    max_matching_ngram_size: int | None = None
    """The longest n-gram that is looked up; by default 2 with `prompt_lookup_num_tokens` and 16
    without it."""
    num_beams: int | None = None
    """The number of beams of a beam search; 1 is no beam search."""
    length_penalty: float | None = None
    """The exponent of the length by which the score of a beam is divided."""
    early_stopping: bool | Literal["never"] | None = None
    """Ends a beam search when as many texts as beams have ended (true), when a better text is
    unlikely (false), or when none can be found ('never')."""
    num_beam_groups: int | None = None
    """The number of beam groups that are kept diverse; 1 is none."""
    diversity_penalty: float | None = None
    """Subtracted from the score of a token that another group chose in the same step."""
    penalty_alpha: float | None = None
    """The weight of the degeneration penalty of contrastive search; 0 is no contrastive search."""
    guidance_scale: float | None = None
    """The scale of classifier-free guidance away from the negative prompt; 1 is none."""
    exponential_decay_length_penalty: tuple[int, float] | None = None
    """After `start` new tokens, the end-of-sequence token becomes more likely by `factor` with
    every token."""
    token_healing: bool | None = None
    """Replaces the last token of the prompt by one that begins with its text, as the model prefers.
    """
    watermarking_config: Mapping[str, object] | SupportsToDict | None = None
    """Marks the text so that it can be told from others."""
    use_cache: bool | None = None
    """Whether keys and values are kept; true is the only value."""
    cache_implementation: str | None = None
    """How keys and values are kept: `dynamic` or `quantized`."""
    cache_config: Mapping[str, object] | SupportsToDict | None = None
    """The parameters of a quantized cache."""
    output_scores: bool | None = None
    """Returns the scores by which every token was chosen."""
    output_logits: bool | None = None
    """Returns the logits at every token."""
    response_format: ResponseFormat | type[SupportsJsonSchema] | None = None
    """What the text has to be: JSON under a schema, a regular expression, a grammar or a choice."""
    frequency_penalty: float | None = None
    """Subtracted from the logit of a token for each time that the token was generated."""
    presence_penalty: float | None = None
    """Subtracted once from the logit of a token that was generated."""
    logit_bias: TokenBiases | None = None
    """Numbers that are added to the logits of tokens."""

    def __new__(cls, **values: object) -> GenerationConfig:
        """Refuses what is no field, with a suggestion."""
        from foredraft.wire.config import refuse_unknown

        refuse_unknown(values)
        return object.__new__(cls)

    def __repr__(self) -> str:
        """Shows the fields that are set, as transformers does."""
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        shown = ", ".join(f"{name}={value!r}" for name, value in values if value is not None)
        return f"GenerationConfig({shown})"

    def to_transformers(self) -> transformers.GenerationConfig:
        """Returns an equal `transformers.GenerationConfig`, to save, to push or to pass to a model.

        Raises:
            InvalidRequestError: transformers is not installed, or cannot do what a field asks for.
        """
        from foredraft._upstream import upstream_config

        return upstream_config(self)
