"""The values of a benchmark: how to assist, how to sample, how one generation went.

This module knows nothing of who generates.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """The beginning of a text."""

    name: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Assist:
    """The drafter and its draft length; transformers' names stand in brackets."""

    kind: str = "none"
    """The drafter: "none", "model" (assistant_model), "lookup" (prompt_lookup_num_tokens), or
    "goodput", with which foredraft chooses k.
    """
    k: int = 0
    """The number of tokens proposed in a round (num_assistant_tokens, prompt_lookup_num_tokens)."""
    threshold: float = 0.0
    """The probability under which a token ends its proposal (assistant_confidence_threshold)."""

    def __str__(self) -> str:
        if self.kind == "goodput":
            return f"k up to {self.k}, by goodput"
        if self.kind == "model":
            return f"k = {self.k}, threshold {self.threshold:g}"
        return f"k = {self.k}" if self.k else ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Greedy decoding at temperature 0; else the whole distribution, without top-k and top-p."""

    temperature: float
    max_new_tokens: int
    seed: int = 0
    rule: str = "rejection"
    """The sampling rule of foredraft; transformers has no other than `rejection`."""

    def __str__(self) -> str:
        return f"temperature {self.temperature:g}, {self.rule}" if self.temperature else "greedy"


@dataclass(frozen=True, slots=True)
class Run:
    """One generation: the caller saw `first_tokens` tokens after `first_s`, and the rest until
    `whole_s`.
    """

    ids: tuple[int, ...]
    whole_s: float
    first_s: float
    first_tokens: int
    rounds: int
    """The forward passes of the target; the first one made the first tokens."""
    drafts: int
    """The rounds that had a proposal."""
    proposed: int
    """The tokens of all proposals."""
    fallbacks: int = 0
    """The rounds in which the draft service had nothing in time."""
    draft_forwards: int = 0
    """The forward passes of the draft, where the process that generates can count them."""

    @property
    def later_s(self) -> float:
        """The time from the first tokens to the end: rounds only, without the prompt."""
        return self.whole_s - self.first_s

    @property
    def later_tokens(self) -> int:
        return len(self.ids) - self.first_tokens

    @property
    def later_rounds(self) -> int:
        return self.rounds - 1

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second after the first tokens."""
        return self.later_tokens / self.later_s

    @property
    def whole_tokens_per_s(self) -> float:
        """Tokens per second with the prompt included."""
        return len(self.ids) / self.whole_s

    @property
    def acceptance_length(self) -> float:
        """The mean number of tokens in a round after the first."""
        return self.later_tokens / self.later_rounds
