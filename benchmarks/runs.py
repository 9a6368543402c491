"""The values of a benchmark:

how to assist, how to sample, how one generation went. Knows nothing of who generates.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """The beginning of a text."""

    name: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Assist:
    """What proposes, and how much at a time; transformers' names are given in brackets."""

    kind: str = "none"
    """"none", "model" (assistant_model), "lookup" (prompt_lookup_num_tokens), or "goodput":

    foredraft chooses k.
    """
    k: int = 0
    """Tokens proposed in a round (num_assistant_tokens, prompt_lookup_num_tokens)."""
    threshold: float = 0.0
    """A proposal ends after a token of less probability (assistant_confidence_threshold)."""

    def __str__(self) -> str:
        if self.kind == "goodput":
            return f"k up to {self.k}, by goodput"
        if self.kind == "model":
            return f"k = {self.k}, threshold {self.threshold:g}"
        return f"k = {self.k}" if self.k else ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Greedy at temperature 0; else the whole distribution, without top-k and top-p."""

    temperature: float
    max_new_tokens: int
    seed: int = 0
    rule: str = "rejection"
    """Of foredraft's; transformers has no other."""

    def __str__(self) -> str:
        return f"temperature {self.temperature:g}, {self.rule}" if self.temperature else "greedy"


@dataclass(frozen=True, slots=True)
class Run:
    """One generation, of which the caller saw `first_tokens` tokens after `first_s` and the rest
    until `whole_s`.
    """

    ids: tuple[int, ...]
    whole_s: float
    first_s: float
    first_tokens: int
    rounds: int
    """Forward passes of the target; the first one made the first tokens."""
    drafts: int
    """Rounds that had a proposal."""
    proposed: int
    """Tokens in all proposals."""
    fallbacks: int = 0
    """Rounds in which the draft service had nothing in time."""
    draft_forwards: int = 0
    """Forward passes of the draft, where the process that generates can count them."""

    @property
    def later_s(self) -> float:
        """From the first tokens to the end: rounds only, no prompt."""
        return self.whole_s - self.first_s

    @property
    def later_tokens(self) -> int:
        return len(self.ids) - self.first_tokens

    @property
    def later_rounds(self) -> int:
        return self.rounds - 1

    @property
    def tokens_per_s(self) -> float:
        """After the first tokens."""
        return self.later_tokens / self.later_s

    @property
    def whole_tokens_per_s(self) -> float:
        """Prompt included."""
        return len(self.ids) / self.whole_s

    @property
    def acceptance_length(self) -> float:
        """Mean tokens of a round, after the first."""
        return self.later_tokens / self.later_rounds
