"""How one sequence is sampled: the parameters, with all defaults filled in.

Names and meanings are those of transformers' `GenerationConfig`. This module knows nothing of
logits.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Greenlist:
    """A watermark that prefers a part of the vocabulary, drawn anew for every context.

    Kirchenbauer et al., arXiv 2306.04634.
    """

    vocabulary_size: int
    """The number of ids that the watermarked model scores, padding included. Draft and detector
    draw from the same number.
    """
    greenlist_ratio: float = 0.25
    bias: float = 2.0
    hashing_key: int = 15485863
    seeding_scheme: str = "lefthash"
    context_width: int = 1


@dataclass(frozen=True, slots=True)
class SynthId:
    """A watermark by a tournament of tokens, judged by random functions of their n-gram.

    Dathathri et al., Nature 634, 2024.
    """

    ngram_len: int
    keys: tuple[int, ...]
    context_history_size: int = 1024
    sampling_table_seed: int = 0
    sampling_table_size: int = 1 << 16
    skip_first_ngram_calls: bool = False
    debug_mode: bool = False


Watermark = Greenlist | SynthId


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What a text has to be, from its first generated token on."""

    kind: str
    """"json_schema", "json_object", "regex", "grammar", "choice" or "structural_tag"."""
    text: str
    """The schema, expression or grammar; JSON where it is a list or an object."""


class Rule(Enum):
    """How a token is chosen, and a proposed token accepted."""

    GREEDY = "greedy"
    """The most likely token, accepted on exact match."""
    REJECTION = "rejection"
    """A sample of p, accepted by rejection sampling."""
    COUPLED = "coupled"
    """A sample of p by noise that draft and target share, accepted on exact match."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling parameters of one sequence, the same on draft and target."""

    rule: Rule = Rule.GREEDY
    seed: int = 0
    sequence_index: int = 0
    prompt_length: int = 0
    max_length: int = 20
    eos_token_id: tuple[int, ...] = ()

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    top_h: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    min_tokens_to_keep: int = 1
    """The number of tokens that every warper keeps. Beams need one more than there are EOS tokens.
    """

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_length: int = 0
    min_new_tokens: int = 0
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_id: tuple[int, ...] = ()
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    renormalize_logits: bool = False
    watermark: Watermark | None = None
    response_format: ResponseFormat | None = None

    @property
    def is_sampled(self) -> bool:
        """Whether tokens are sampled, so that warpers apply."""
        return self.rule is not Rule.GREEDY
