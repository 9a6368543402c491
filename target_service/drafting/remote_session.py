"""The proposals that draft services make for one sequence, on one stream after another.

Nothing that a draft service does raises an error here: the worst answer is an empty proposal. This
module knows nothing of what is done without a proposal.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import draft_pb2
from foredraft_engine.proposal import NOTHING
from foredraft_serving.messages import MessageError, proposal_from
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_answer import DraftAnswer, DraftingTime, Foresight
from target_service.drafting.draft_messages import DraftMessages, ProposalRequest
from target_service.drafting.draft_pool import DraftPool
from target_service.drafting.draft_status import StreamEnd
from target_service.drafting.draft_stream import DraftStream
from target_service.drafting.draft_times import DraftTimes
from target_service.drafting.inbox import ReceivedBlock
from target_service.request.plan import Plan

# The share of the timeout in which the draft service may draw tokens. With an early stop, the time
# that a proposal takes depends on its tokens. Dropping a block because it has many tokens would
# bias what is accepted under the rejection rule. The draft service is therefore told to finish in
# time, and a block that still comes too late was delayed by something else.
_BUDGET_SHARE = 0.7
# A sequence that draft services refuse is tried a few times more, with a pause before each.
_MOST_REFUSALS, _REFUSAL_PAUSE_S = 3, 0.5


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a target uses draft services."""

    timeout_s: float
    """The longest time that a round waits for a block."""
    outcomes: int
    """The largest number of outcomes of a verification to draft ahead for; 0 turns this off."""
    vocabulary_size: int


class RemoteSession:
    """One sequence as draft services see it."""

    def __init__(
        self, pool: DraftPool, plan: Plan, options: SessionOptions, metrics: TargetMetrics
    ) -> None:
        self._pool, self._options, self._metrics = pool, options, metrics
        budget_s = _BUDGET_SHARE * options.timeout_s
        self._messages = DraftMessages(plan, budget_s)
        self._epoch = 0
        self._refusals = 0  # of this sequence
        self._refused_until = 0.0
        self._stream: DraftStream | None = None

    @property
    def is_open(self) -> bool:
        """Whether a draft service follows the sequence."""
        return self._stream is not None and self._stream.is_open

    @property
    def is_waited_for(self) -> bool:
        """Whether the next round will wait for the draft service."""
        return self._open_stream is not None and self._open_stream.is_waited_for

    @property
    def times(self) -> DraftTimes | None:
        """What proposals of the draft service cost; None if no draft service follows."""
        return self._open_stream.times if self._open_stream else None

    def begin(self, tokens: Sequence[int], request: ProposalRequest) -> None:
        """Opens a stream on the committed tokens, if a draft service can be used now."""
        endpoint = self._pool.pick()
        if endpoint is None or request.k <= 0:
            return
        self._epoch += 1
        opening = self._messages.opening(self._epoch, tokens, request)
        self._stream = DraftStream(endpoint, opening, self._metrics)

    async def propose(self, tokens: Sequence[int], request: ProposalRequest) -> DraftAnswer:
        """Returns the proposal on the committed tokens and waits for it within the timeout.

        The answer is an empty proposal at once if it is known that none will come.
        """
        stream = self._open_stream
        if stream is None:
            return self._reopen(tokens, request)
        began = time.perf_counter()
        deadline = stream.inbox.requested_at(len(tokens), began) + self._options.timeout_s
        while (found := stream.inbox.find(tokens)) is None:
            if not stream.is_open:
                return DraftAnswer(problem=_problem(stream.end))
            left_s = deadline - time.perf_counter()
            if not stream.is_waited_for or left_s <= 0:
                return self._late(stream, time.perf_counter() - began)
            await stream.wait(left_s)
        return self._answer(stream, *found, request, time.perf_counter() - began)

    def drafted_ahead(self, tokens: Sequence[int], request: ProposalRequest) -> DraftAnswer | None:
        """Returns the proposal on these tokens that has come already; None if there is none."""
        stream = self._open_stream
        found = stream.inbox.find(tokens) if stream else None
        if stream is None or found is None:
            return None
        answer = self._answer(stream, *found, request, 0.0)
        return answer if stream.is_open else None

    def foresight(self, base_len: int) -> Foresight | None:
        """Returns what was asked of the draft service ahead of the verdict on this base; None if
        that was nothing.
        """
        stream = self._open_stream
        asked = stream.inbox.asked(base_len) if stream else None
        if stream is None or asked is None or not asked.outcomes:
            return None
        if not stream.endpoint.drafts_ahead:
            return None
        missed = "unforeseen" if stream.inbox.has_outcomes(base_len) else "late"
        return Foresight(asked.outcomes, missed)

    def outcomes(self, k: int, verify_s: float | None) -> int:
        """Returns for how many outcomes of the next verification to draft ahead.

        Args:
            k: the number of tokens for each.
            verify_s: the time of a round without waiting; None if it is not known.
        """
        if not k or verify_s is None or self.times is None:
            return self._options.outcomes
        return self.times.choose(k, verify_s)

    async def commit(
        self,
        tokens: Sequence[int],
        request: ProposalRequest,
        *,
        block_id: int = 0,
        explicit_ids: Sequence[int] | None = None,
    ) -> None:
        """Sends all tokens that were committed since the last commit, and requests proposals.

        A draft service that is late gets the next commit only after it has answered the last one,
        because a commit in every round would interrupt it before it ever answers.

        Args:
            tokens: all committed tokens.
            request: the size of the next proposals.
            block_id: the block whose proposal the target verifies now.
            explicit_ids: the tokens that the target verifies now instead. Neither is given if the
                target waits for a proposal.
        """
        stream = self._open_stream
        if stream is None:
            return
        if not stream.is_waited_for and not stream.is_overdue(self._options.timeout_s):
            return
        base_len = stream.committed
        ahead_s = _ahead_s(request.step_s, stream.times)
        message = self._messages.commit(base_len, tokens[base_len:], request, ahead_s)
        if explicit_ids is not None:
            message.explicit_ids.ids.extend(explicit_ids)
            message.explicit_ids.SetInParent()
        elif block_id:
            message.block_id = block_id
        stream.commit(message)
        # The message leaves in this turn of the event loop, before the caller does anything else.
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Ends the stream, which frees the row on the draft service."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    @property
    def _open_stream(self) -> DraftStream | None:
        return self._stream if self._stream is not None and self._stream.is_open else None

    def _reopen(self, tokens: Sequence[int], request: ProposalRequest) -> DraftAnswer:
        stream, self._stream = self._stream, None
        if stream is not None and stream.end in (StreamEnd.REFUSED, StreamEnd.FAULTY):
            # The next try may go to another draft service, or meet another state of this one.
            self._refusals += 1
            self._refused_until = time.monotonic() + _REFUSAL_PAUSE_S
        if self._refusals >= _MOST_REFUSALS or time.monotonic() < self._refused_until:
            return DraftAnswer(problem="refused")
        self.begin(tokens, request)
        if self._open_stream is not None:
            # Its first block will build on tokens that are history when it comes. That block is no
            # proposal but shows that the draft service has caught up.
            self._open_stream.is_waited_for = False
        if self._pool.unused_reason:
            return DraftAnswer(problem="mismatch")
        return DraftAnswer(problem=_problem(stream.end if stream else None))

    def _late(self, stream: DraftStream, waited_s: float) -> DraftAnswer:
        excused = stream.is_waited_for and stream.endpoint.was_late(self._options.timeout_s)
        stream.is_waited_for = False
        return DraftAnswer(problem="late", waited_s=waited_s, excused=excused)

    def _answer(
        self,
        stream: DraftStream,
        received: ReceivedBlock,
        outcome: draft_pb2.Outcome,
        request: ProposalRequest,
        waited_s: float,
    ) -> DraftAnswer:
        """Checks the proposal of an outcome; a bad one ends the stream."""
        received.used = True
        block, ahead = received.block, bool(outcome.path)
        requested_at = stream.inbox.requested_at(block.base_len, received.received_at)
        round_trip_s = received.received_at - requested_at
        self._metrics.draft_round_trip.observe(round_trip_s)
        self._metrics.draft_wait.observe(waited_s)
        self._metrics.draft_hidden.inc(max(0.0, round_trip_s - waited_s))
        try:
            proposal = proposal_from(outcome.proposal, self._options.vocabulary_size)
            proposal = proposal.first(request.k, request.alternatives)
        except MessageError as error:
            stream.lose(StreamEnd.FAULTY, f"sent a bad block: {error}")
            self._metrics.discarded_blocks.labels("invalid").inc()
            return DraftAnswer(NOTHING, "refused", waited_s, ahead)
        stream.endpoint.was_useful()
        asked = stream.inbox.asked(block.base_len)
        # The first block took reading the prompt, too.
        if not ahead and asked is not None and asked.outcomes_before is not None:
            tokens = len(outcome.proposal.ids)
            stream.times.observe_proposal(asked.outcomes_before, block.draft_s, tokens)
            stream.times.observe_network(round_trip_s - block.draft_s)
        problem = "" if proposal.ids else "empty"
        times = DraftingTime(requested_at, received.received_at)
        return DraftAnswer(proposal, problem, waited_s, ahead, block.block_id, times)


def _problem(end: StreamEnd | None) -> str:
    """Returns why there is no proposal after the end of a stream."""
    match end:
        case StreamEnd.WRONG:
            return "mismatch"
        case StreamEnd.REFUSED | StreamEnd.FAULTY:
            return "refused"
    return "lost"


def _ahead_s(step_s: float, times: DraftTimes) -> float:
    """Returns the part of a verification in which the draft service can work."""
    return max(step_s - times.network_s, step_s / 4)
