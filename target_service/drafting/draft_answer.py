"""What draft services have for one round, as values.

This module knows nothing of streams.
"""

from dataclasses import dataclass

from foredraft_engine.proposal import NOTHING, Proposal


@dataclass(frozen=True, slots=True)
class DraftingTime:
    """When a proposal was asked for and when it came, on the clock of `time.perf_counter`."""

    began: float
    ended: float

    @property
    def took_s(self) -> float:
        """The seconds in between."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class DraftAnswer:
    """What draft services have for one round."""

    proposal: Proposal = NOTHING
    problem: str = ""
    """Why the proposal is empty: "lost", "mismatch", "late", "refused" or "empty"."""
    waited_s: float = 0.0
    """The time that the target waited for the answer."""
    drafted_ahead: bool = False
    """Whether the proposal was drafted for an outcome, before the verdict was known."""
    block_id: int = 0
    """The block that held the proposal."""
    times: DraftingTime | None = None
    """When it was drafted; None if no proposal came."""
    excused: bool = False
    """Whether the draft service is not charged for `waited_s`."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What was asked of a draft service ahead of one verdict."""

    outcomes: int
    """The number of outcomes to draft for."""
    missed: str
    """Why the verdict is a miss unless it is a hit: "late" if no outcomes have come yet, else
    "unforeseen".
    """
