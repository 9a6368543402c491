"""Generation parameters as a value: Hugging Face's names and meanings.

Knows nothing of the wire, nor of what a value may be: `_parameters` checks and writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """Parameters of a generation. None: as in the model's own config, else transformers' default.

    The meanings are those of `transformers.GenerationConfig`, which is accepted wherever this is.
    Lengths count tokens, `max_time` seconds.

        GenerationConfig(max_new_tokens=64)
        GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9)
        GenerationConfig(stop_strings=["\\n\\n"], eos_token_id=[0, 2])
        GenerationConfig(num_assistant_tokens=0)       # plain decoding
        GenerationConfig(prompt_lookup_num_tokens=10)  # drafts by n-gram lookup alone
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    max_time: float | None = None
    stop_strings: str | Sequence[str] | None = None
    do_sample: bool | None = None
    num_return_sequences: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_h: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    bad_words_ids: Sequence[Sequence[int]] | None = None
    sequence_bias: (
        Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]] | None
    ) = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    remove_invalid_values: bool | None = None
    renormalize_logits: bool | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    num_assistant_tokens: int | None = None
    num_assistant_tokens_schedule: str | None = None
    assistant_confidence_threshold: float | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    num_beam_groups: int | None = None
    diversity_penalty: float | None = None
    penalty_alpha: float | None = None
    guidance_scale: float | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None
    token_healing: bool | None = None
    watermarking_config: Mapping[str, Any] | None = None
    use_cache: bool | None = None
    cache_implementation: str | None = None
    cache_config: Mapping[str, Any] | None = None
    output_scores: bool | None = None
    output_logits: bool | None = None

    def __repr__(self) -> str:
        """What is set, as transformers shows its own."""
        values = [(name, getattr(self, name)) for name in FIELDS]
        return f"GenerationConfig({', '.join(f'{name}={value!r}' for name, value in values if value is not None)})"

    def to_transformers(self) -> Any:
        """The same as a `transformers.GenerationConfig`, which can be saved, pushed to a hub, or
        passed to a model.

        Raises:
            InvalidRequestError: transformers is not installed, or cannot do what a field asks for.
        """
        from foredraft._upstream import upstream_config

        return upstream_config(self)


FIELDS = tuple(f.name for f in fields(GenerationConfig))
