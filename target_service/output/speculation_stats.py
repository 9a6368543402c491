"""The counts of one sequence's rounds.

This module knows nothing of metrics, which count all sequences of the service.
"""

from collections import Counter
from dataclasses import dataclass, field

from foredraft.v1 import target_pb2
from foredraft_engine.proposal import Verdict
from foredraft_engine.sampling import Rule
from target_service.drafting.round_proposal import RoundProposal


@dataclass(slots=True)
class SpeculationStats:
    """What assistance did for one sequence."""

    rounds: int = 0
    proposed: int = 0
    accepted: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    """Rounds by the number of accepted tokens."""
    drafters: Counter[str] = field(default_factory=Counter)
    """Rounds by what made their proposal."""
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Rounds without a proposal of a draft service, by the reason."""
    drafted: Counter[str] = field(default_factory=Counter)
    """Rounds with a proposal of a draft service, by when it was drafted: "ahead" or "asked"."""
    waited_s: float = 0.0
    hidden_s: float = 0.0

    def observe(self, drafted: RoundProposal, verdict: Verdict) -> None:
        """Counts one round."""
        proposal = drafted.proposal
        self.rounds += 1
        self.proposed += len(proposal.ids)
        self.accepted += verdict.accepted
        self.histogram[verdict.accepted] += 1
        if proposal.ids:
            self.drafters[proposal.made_by] += 1
        if drafted.fallback:
            self.fallbacks[drafted.fallback] += 1
        if drafted.drafted:
            self.drafted[drafted.drafted] += 1
        self.waited_s += drafted.waited_s
        self.hidden_s += drafted.hidden_s

    def observe_pass(self) -> None:
        """Counts one forward pass of a strategy that no draft assists."""
        self.rounds += 1
        self.histogram[0] += 1

    def message(self, rule: Rule, unused_reason: str) -> target_pb2.SpeculationStats:
        """Returns the protobuf message.

        Args:
            rule: the sampling rule of the sequence.
            unused_reason: why no draft service can be used; empty if one can.
        """
        return target_pb2.SpeculationStats(
            rounds=self.rounds,
            proposed=self.proposed,
            accepted=self.accepted,
            acceptance_histogram=[
                self.histogram[i] for i in range(max(self.histogram, default=0) + 1)
            ],
            drafter="+".join(sorted(self.drafters)) or "none",
            fallbacks=self.fallbacks,
            draft_unused_reason=unused_reason,
            seed_repeats_with_any_drafter=rule is not Rule.REJECTION,
            pushed=self.drafted["ahead"],
            waited_for=self.drafted["asked"],
            waited_s=self.waited_s,
            hidden_s=self.hidden_s,
        )
