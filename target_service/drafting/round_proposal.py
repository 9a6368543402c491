"""The proposal of one round of a sequence, and how it came about.

This module knows nothing of where proposals come from.
"""

from dataclasses import dataclass, replace

from foredraft_engine.proposal import NOTHING, Proposal
from target_service.drafting.draft_answer import DraftAnswer, DraftingTime


@dataclass(frozen=True, slots=True)
class RoundProposal:
    """The proposal of one round, and how it came about."""

    proposal: Proposal = NOTHING
    fallback: str = ""
    """Why a draft service did not make it; empty if it did, or if there is none to make it."""
    requested_at: float = 0.0
    """When the round began, on the clock of `time.perf_counter`."""
    waited_s: float = 0.0
    """The time that the target waited for it."""
    excused_s: float = 0.0
    """The part of `waited_s` that the draft service is not charged for."""
    times: DraftingTime | None = None
    """When a draft service drafted it; None if none did."""
    looked_up: bool = False
    """Whether the target looked it up itself."""
    drafted: str = ""
    """When a draft service drafted it: "ahead" of the verdict that it follows, or as it was "asked"
    to; empty if none did.
    """

    beside_draft: bool = False
    """Whether a draft service may draft while the target verifies what it did not propose."""

    @property
    def is_timed(self) -> bool:
        """Whether the round tells how long such rounds take without a draft service.

        A draft that shares the target's cores slows its rounds down. If that counted, plain rounds
        would seem slow, and assistance would seem to pay.
        """
        return not self.beside_draft or bool(self.proposal.ids)

    @staticmethod
    def of(answer: DraftAnswer) -> "RoundProposal":
        """Returns the round of what a draft service answered."""
        return RoundProposal(
            answer.proposal,
            waited_s=answer.waited_s,
            times=answer.times,
            drafted="ahead" if answer.drafted_ahead else "asked",
        )

    def after(self, proposal: Proposal) -> "RoundProposal":
        """Returns the round with a proposal that the target made in place of the draft's, unless
        that is the draft's own.
        """
        looked_up = proposal is not self.proposal
        return replace(self, proposal=proposal, looked_up=looked_up)

    @property
    def hidden_s(self) -> float:
        """The time that drafting and the network took while the target did not wait."""
        return max(0.0, self.times.took_s - self.waited_s) if self.times else 0.0
