"""What the SDK gives back: frozen values, no protobuf among them. Knows nothing of the wire."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foredraft._generation_config import GenerationConfig


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities at one position, under the model's own distribution."""

    logprob: float
    """Of the token that was chosen."""
    top: tuple[tuple[int, float], ...]
    """The most likely ids with theirs, best first."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Scores of the tokens at one position."""

    ids: Sequence[int] | None
    """Of the values, in rising order;

    None where there is one for every id. Ids that are left out have -inf.
    """
    values: Sequence[float]

    def dense(self, vocabulary_size: int) -> list[float]:
        """One score for each id."""
        row = [-math.inf] * vocabulary_size
        for token, value in zip(
            range(len(self.values)) if self.ids is None else self.ids, self.values, strict=True
        ):
            row[token] = value
        return row


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that one round added to one sequence."""

    sequence_index: int
    token_ids: tuple[int, ...]
    text: str
    num_accepted: int
    """How many of the tokens, from the first, a draft proposed; the target made the others."""
    logprobs: tuple[Logprobs, ...] = ()
    text_offsets: tuple[int, ...] = ()
    """Where in `text` each token's own text begins."""
    finish_reason: str | None = None
    """None while the sequence goes on;

    else "length", "eos_token", "stop_string", "max_time" or "stopping_criteria".
    """
    scores: tuple[ScoreRow, ...] = ()
    """By which each token was chosen, with `output_scores`."""
    logits: tuple[ScoreRow, ...] = ()
    """The model's own at each token, with `output_logits`."""


@dataclass(frozen=True, slots=True)
class Stats:
    """How assistance went in one sequence."""

    rounds: int = 0
    """Forward passes of the target after the prompt."""
    proposed: int = 0
    accepted: int = 0
    acceptance_histogram: tuple[int, ...] = ()
    """Entry i counts the rounds in which i tokens were accepted."""
    drafter: str = "none"
    """"model", "ngram", "model+ngram" or "none"."""
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """Rounds in which something else than the drafter had to do, by reason."""
    draft_unused_reason: str = ""
    seed: int = 0
    sampling_rule: str = "greedy"
    """"greedy", "rejection" or "coupled"."""
    seed_repeats_with_any_drafter: bool = True
    """False under the rejection rule, where a seed holds for one drafter and one draft length only.
    """

    @property
    def acceptance_rate(self) -> float:
        """Accepted by proposed; 0 when nothing was proposed."""
        return self.accepted / self.proposed if self.proposed else 0.0

    @property
    def mean_acceptance_length(self) -> float:
        """Tokens of a round: 1 + accepted / rounds."""
        return 1 + self.accepted / self.rounds if self.rounds else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One generated sequence; in an error's `partial`, as far as it came."""

    text: str
    token_ids: tuple[int, ...]
    """New tokens only."""
    finish_reason: str | None
    stats: Stats
    logprobs: tuple[Logprobs, ...] = ()
    prompt_tokens: int = 0
    sequence_index: int = 0
    score: float | None = None
    """Of a beam search: the sum of the log-probabilities by the length to the power of
    `length_penalty`.
    """
    request_id: str = ""
    scores: tuple[ScoreRow, ...] = ()
    """By which each token was chosen, with `output_scores`."""
    logits: tuple[ScoreRow, ...] = ()
    """The model's own at each token, with `output_logits`."""


@dataclass(frozen=True, slots=True)
class WatermarkDetection:
    """What speaks for a watermark in one text."""

    num_tokens_scored: int
    """Tokens that could bear it."""
    num_green_tokens: int | None = None
    green_fraction: float | None = None
    z_score: float | None = None
    """Green lists: standard deviations above what an unmarked text has."""
    p_value: float | None = None
    """Green lists: how likely an unmarked text has as many green tokens."""
    prediction: bool | None = None
    """Green lists: whether the z-score is above the threshold."""
    confidence: float | None = None
    mean_score: float | None = None
    """SynthID: mean of the g-values; 0.5 in an unmarked text."""
    weighted_mean_score: float | None = None
    """SynthID: the same, with more weight on the first layers."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What generates behind an address."""

    model: str
    max_length: int
    """Longest sequence in tokens, prompt included."""
    vocabulary_size: int
    rows: int
    """Sequences that can be generated at the same time."""
    row_layout: str
    dtype: str
    device: str
    drafts: Mapping[str, str]
    """Draft services and their state."""
    generation_config: GenerationConfig = field(default_factory=GenerationConfig)
    """What the model's own generation config sets; a call's parameters go over it."""
