"""How proposals are drafted, as values.

This module knows nothing of how a token is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from foredraft_engine.speculation.preview import Chooser, Preview


def choose_none(preview: Preview, most: int) -> Sequence[tuple[int, int]]:
    """Chooses nothing. A `Chooser`."""
    return ()


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """How a proposal is drafted."""

    k: int
    """The largest number of tokens."""
    epoch: int = 0
    """Gives draft sessions on the same tokens different random numbers."""
    confidence: float = 0.0
    """The proposal ends after a token of a lower probability."""
    q_width: int = 0
    """The largest number of entries in a row of q; 0 for the whole vocabulary."""
    alternatives: int = 0
    """The largest number of alternatives to the tokens."""
    choose: Chooser = choose_none
    """Chooses the alternatives, and the outcomes of a tree."""
    deadline: float = float("inf")
    """When the proposal is wanted, on the clock of `time.monotonic()`. No further token is drawn
    after it; where rows run ahead, only as many tokens are drafted as come in time by the measured
    times of passes. A tree is drafted to the end, but one that is wanted earlier goes first.
    """


@dataclass(slots=True)
class EarlyVerdict:
    """The verdict of a round, if it becomes known while its tree still grows.

    All branches but that of the verdict then end.
    """

    path: tuple[int, ...] | None = None
    """The accepted tokens and the target's own, once they are known. The caller writes it."""


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """How proposals for the outcomes of a round are drafted."""

    draft: DraftOptions
    """How the proposal of each outcome is drafted."""
    max_outcomes: int
    """The largest number of outcomes."""
    early_verdict: EarlyVerdict = field(default_factory=EarlyVerdict)
