"""The values that the SDK returns: frozen, with no protobuf among them.

This module knows nothing of the wire.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from foredraft._generation_config import GenerationConfig


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The log-probabilities at one position, under the model's own distribution."""

    logprob: float
    """The log-probability of the token that was chosen."""
    top: tuple[tuple[int, float], ...]
    """The most likely ids with their log-probabilities, the best first."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of the tokens at one position."""

    ids: Sequence[int] | None
    """The ids of the values, in rising order; None where there is a value for every id. Ids that
    are left out have the score -inf.
    """
    values: Sequence[float]

    def dense(self, vocabulary_size: int) -> list[float]:
        """Returns one score for each id."""
        row = [-math.inf] * vocabulary_size
        for token, value in zip(
            range(len(self.values)) if self.ids is None else self.ids, self.values, strict=True
        ):
            row[token] = value
        return row


Origin = Literal["target", "draft_model", "ngram", "alternative", "grammar", "unknown"]
"""Where a token came from: the target made it, or a draft model proposed it, n-gram lookup did, it
was verified next to a proposed token, or a response format left no choice about it. An older
service does not tell.
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: its proposal and its verification.

    Times are seconds since the service took the call; after a resumed call, since the last service
    took it.
    """

    proposed_ids: tuple[int, ...]
    proposed_by: Origin | None
    """Where the proposal came from; None if nothing was proposed."""
    alternatives: tuple[tuple[int, int], ...]
    """Pairs (position, id): tokens that were verified in place of proposed ones."""
    began_s: float
    waited_s: float
    """The seconds that the target waited for the proposal, from the beginning of the round on."""
    ended_s: float
    """When the verdict was there."""
    drafting_s: tuple[float, float] | None
    """When the proposal was asked for and when it came; None if no draft service made it."""
    drafted_ahead: bool
    """Whether it was drafted before the verdict that it follows."""
    fallback: str
    """Why a draft service did not make the proposal; empty if it did, or if there is none."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tokens that one round added to one sequence."""

    sequence_index: int
    token_ids: tuple[int, ...]
    text: str
    num_accepted: int
    """The number of tokens, from the first on, that a draft proposed; the target made the others.
    """
    logprobs: tuple[Logprobs, ...] = ()
    text_offsets: tuple[int, ...] = ()
    """The places in `text` where each token's own text begins."""
    finish_reason: str | None = None
    """None while the sequence goes on; else "length", "eos_token", "stop_string", "max_time" or
    "stopping_criteria".
    """
    scores: tuple[ScoreRow, ...] = ()
    """The scores by which each token was chosen, with `output_scores`."""
    logits: tuple[ScoreRow, ...] = ()
    """The model's own logits at each token, with `output_logits`."""
    origins: tuple[Origin, ...] = ()
    """Where each token came from."""
    round: Round | None = None
    """The round that begins with this chunk, with `return_rounds`."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The statistics of assistance in one sequence."""

    rounds: int = 0
    """The number of forward passes of the target after the prompt."""
    proposed: int = 0
    accepted: int = 0
    acceptance_histogram: tuple[int, ...] = ()
    """Entry i counts the rounds in which i tokens were accepted."""
    drafter: str = "none"
    """The name of the drafter: "model", "ngram" or "grammar", several as in "model+ngram", or
    "none".
    """
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """The number of rounds that went on without the draft service, by reason."""
    draft_unused_reason: str = ""
    seed: int = 0
    sampling_rule: str = "greedy"
    """The rule by which tokens were chosen: "greedy", "rejection" or "coupled"."""
    seed_repeats_with_any_drafter: bool = True
    """Whether the seed gives the same text with every drafter. Under `rejection` it holds for one
    drafter and one draft length only.
    """
    pushed: int = 0
    """The number of rounds whose proposal was drafted ahead, before the verdict that it follows."""
    waited_for: int = 0
    """The number of rounds that waited for a proposal to be drafted."""
    waited_s: float = 0.0
    """The seconds that the target waited for proposals of a draft service."""
    hidden_s: float = 0.0
    """The seconds of drafting and of the network that were hidden behind the target's own work: for
    each proposal of a draft service that was verified, the time from asking for it until it came,
    without what the target waited of it.
    """
    resumed: int = 0
    """The number of times that the sequence went on after its connection was lost. Rounds, proposed
    and accepted tokens of all parts are counted; all else is the last part's.
    """

    @property
    def acceptance_rate(self) -> float:
        """Accepted tokens divided by proposed ones; 0 if none was proposed."""
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
    """The new tokens, without the prompt."""
    finish_reason: str | None
    stats: Stats
    logprobs: tuple[Logprobs, ...] = ()
    prompt_tokens: int = 0
    sequence_index: int = 0
    score: float | None = None
    """The score of a beam search: the sum of log-probabilities divided by the length to the power
    of `length_penalty`.
    """
    request_id: str = ""
    scores: tuple[ScoreRow, ...] = ()
    """The scores by which each token was chosen, with `output_scores`."""
    logits: tuple[ScoreRow, ...] = ()
    """The model's own logits at each token, with `output_logits`."""
    origins: tuple[Origin, ...] = ()
    """Where each token came from."""
    rounds: tuple[Round, ...] = ()
    """The rounds, with `return_rounds`."""
    prompt_logprobs: tuple[Logprobs | None, ...] = ()
    """The log-probabilities at each token of the prompt, with `prompt_logprobs`. The first token
    follows nothing and has None.
    """
    cached_tokens: int = 0
    """The number of the prompt's tokens that the service held from an earlier call."""


@dataclass(frozen=True, slots=True)
class WatermarkDetection:
    """The evidence for a watermark in one text."""

    num_tokens_scored: int
    """The number of tokens that could bear the watermark."""
    num_green_tokens: int | None = None
    green_fraction: float | None = None
    z_score: float | None = None
    """Green lists: the number of standard deviations above an unmarked text."""
    p_value: float | None = None
    """Green lists: the probability that an unmarked text has as many green tokens."""
    prediction: bool | None = None
    """Green lists: whether the z-score is above the threshold."""
    confidence: float | None = None
    mean_score: float | None = None
    """SynthID: the mean of the g-values, which is 0.5 in an unmarked text."""
    weighted_mean_score: float | None = None
    """SynthID: the same mean, with more weight on the first layers."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model and the service behind an address."""

    model: str
    max_length: int
    """The length of the longest sequence in tokens, prompt included."""
    vocabulary_size: int
    rows: int
    """The number of sequences that can be generated at the same time."""
    row_layout: str
    dtype: str
    device: str
    drafts: Mapping[str, str]
    """The draft services by address, each with its state."""
    generation_config: GenerationConfig = field(default_factory=GenerationConfig)
    """What the model's own generation config sets; the parameters of a call go before it."""
