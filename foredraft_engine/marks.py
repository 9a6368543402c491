"""Watermarks as values: two schemes, with transformers' names and defaults. Knows nothing of logits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Greenlist:
    """A part of the vocabulary, drawn anew for every context, is preferred (Kirchenbauer et al., arXiv 2306.04634)."""

    vocabulary_size: int
    """Of the model that is marked, its padding included: draft and detector draw from just that many."""
    greenlist_ratio: float = 0.25
    bias: float = 2.0
    hashing_key: int = 15485863
    seeding_scheme: str = "lefthash"
    context_width: int = 1


@dataclass(frozen=True, slots=True)
class SynthId:
    """Tokens compete in a tournament of random functions of their n-gram (Dathathri et al., Nature 634, 2024)."""

    ngram_len: int
    keys: tuple[int, ...]
    context_history_size: int = 1024
    sampling_table_seed: int = 0
    sampling_table_size: int = 1 << 16
    skip_first_ngram_calls: bool = False
    debug_mode: bool = False


Mark = Greenlist | SynthId
