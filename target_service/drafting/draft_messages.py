"""What a target says to a draft service about one sequence, as messages.

Knows nothing of streams or answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import draft_pb2
from foredraft_serving.messages import RULES
from target_service.request.plan import Plan


@dataclass(frozen=True, slots=True)
class ProposalRequest:
    """What is wanted of a proposal."""

    k: int
    alternatives: int = 0
    """To its tokens, at most."""
    step_s: float = 0.0
    """Expected time of its verification, 0 if not known."""


@dataclass(frozen=True, slots=True)
class DraftMessages:
    """Makes the messages of one sequence."""

    plan: Plan
    budget_s: float
    """Within which a proposal that is waited for is useful."""
    outcomes: int

    def opening(self, epoch: int, tokens: Sequence[int], wanted: ProposalRequest) -> draft_pb2.Open:
        """Begins, on the tokens committed so far."""
        plan = self.plan
        sampling = plan.sampling
        return draft_pb2.Open(
            epoch=epoch,
            prompt_ids=tokens[: sampling.prompt_length],
            generated_ids=tokens[sampling.prompt_length :],
            sampling=plan.config,
            rule=RULES[sampling.rule],
            seed=sampling.seed,
            sequence_index=sampling.sequence_index,
            max_length=plan.max_length,
            k=wanted.k,
            budget_s=self.budget_s,
            outcomes=self.outcomes,
            verification_s=wanted.step_s,
            alternatives=wanted.alternatives,
            cache_scope=bytes.fromhex(plan.owner),
        )

    def commit(
        self, base_len: int, ids: Sequence[int], wanted: ProposalRequest, until_wanted_s: float
    ) -> draft_pb2.Commit:
        """Tells what was committed on a base and asks for more.

        until_wanted_s: that a draft has for outcomes, 0 if not known.
        """
        message = draft_pb2.Commit(
            base_len=base_len, accepted_ids=ids[:-1], next_id=ids[-1], k=wanted.k
        )
        message.budget_s, message.alternatives = self.budget_s, wanted.alternatives
        if wanted.k > 0:
            message.outcomes, message.verification_s = self.outcomes, until_wanted_s
        return message
