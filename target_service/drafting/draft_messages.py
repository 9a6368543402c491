"""The messages that a target sends to a draft service about one sequence.

This module knows nothing of streams or answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import draft_pb2
from foredraft_serving.messages import RULES
from target_service.request.plan import Plan


@dataclass(frozen=True, slots=True)
class ProposalRequest:
    """The size of a proposal that a round asks for."""

    k: int
    alternatives: int = 0
    """The largest number of alternatives to its tokens."""
    step_s: float = 0.0
    """The expected time of its verification; 0 if unknown."""
    outcomes: int = 0
    """The number of outcomes of that verification to draft ahead for."""


@dataclass(frozen=True, slots=True)
class DraftMessages:
    """Builds the messages of one sequence."""

    plan: Plan
    budget_s: float
    """The time within which a proposal that the target waits for is useful."""

    def opening(
        self, epoch: int, tokens: Sequence[int], request: ProposalRequest
    ) -> draft_pb2.Open:
        """Returns the first message of a stream, which holds all committed tokens."""
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
            k=request.k,
            budget_s=self.budget_s,
            outcomes=request.outcomes,
            verification_s=request.step_s,
            alternatives=request.alternatives,
            cache_scope=bytes.fromhex(plan.identity.scope),
            owner=bytes.fromhex(plan.identity.owner),
        )

    def commit(
        self, base_len: int, ids: Sequence[int], request: ProposalRequest, ahead_s: float
    ) -> draft_pb2.Commit:
        """Returns the message that commits tokens and requests the next proposals.

        Args:
            base_len: the number of tokens committed before.
            ids: the tokens committed now, of which the last is the target's own.
            request: the size of the next proposals.
            ahead_s: the time that the draft has for outcomes; 0 if unknown.
        """
        message = draft_pb2.Commit(
            base_len=base_len, accepted_ids=ids[:-1], next_id=ids[-1], k=request.k
        )
        message.budget_s, message.alternatives = self.budget_s, request.alternatives
        if request.k > 0:
            message.outcomes, message.verification_s = request.outcomes, ahead_s
        return message
