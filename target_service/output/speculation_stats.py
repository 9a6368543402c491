"""What assistance did for one sequence. Knows nothing of metrics: those are of the service."""

from collections import Counter
from dataclasses import dataclass, field

from foredraft.v1 import target_pb2
from foredraft_engine.proposal import Proposal, Verdict
from foredraft_engine.sampling import Rule


@dataclass(slots=True)
class SpeculationStats:
    """Counts of one sequence."""

    rounds: int = 0
    proposed: int = 0
    accepted: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    drafters: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)

    def observe(self, proposal: Proposal, verdict: Verdict, fallback: str) -> None:
        """Counts one round."""
        self.rounds += 1
        self.proposed += len(proposal.ids)
        self.accepted += verdict.accepted
        self.histogram[verdict.accepted] += 1
        if proposal.ids:
            self.drafters[proposal.made_by] += 1
        if fallback:
            self.fallbacks[fallback] += 1

    def passed(self) -> None:
        """Counts a forward pass of a strategy that no draft assists."""
        self.rounds += 1
        self.histogram[0] += 1

    def message(self, rule: Rule, unused_reason: str) -> target_pb2.SpeculationStats:
        """The wire's form."""
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
        )
