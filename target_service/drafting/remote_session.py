"""One sequence followed by a draft service: opens the stream, commits, receives blocks, survives
its loss.

Never raises for what the draft does: the worst answer is no proposal. Knows nothing of what is done
then.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio

from foredraft.v1 import draft_pb2
from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_serving.logs import request_id
from foredraft_serving.messages import MessageError, proposal_from
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_messages import DraftMessages, ProposalRequest
from target_service.drafting.draft_pool import DraftEndpoint, DraftPool
from target_service.drafting.goodput import DraftTimes
from target_service.drafting.inbox import Inbox, Received
from target_service.request.plan import Plan

# Of the time that a block is waited for, the part in which tokens may be drawn. With an early stop
# the time of a proposal depends on its tokens; a block dropped for having many would bias what is
# accepted under the rejection rule. So the draft is told to end in time, and what comes too late
# was held up by something else.
_BUDGET_SHARE = 0.7


class RemoteSession:
    """Blocks of one sequence, whichever draft service makes them."""

    def __init__(
        self,
        drafts: DraftPool,
        plan: Plan,
        vocabulary_size: int,
        timeout_s: float,
        outcomes: int,
        metrics: TargetMetrics,
    ) -> None:
        """outcomes: of a verification, that the draft is to draft ahead for."""
        self._drafts, self._timeout_s, self._metrics = drafts, timeout_s, metrics
        self._vocabulary_size, self._outcomes = vocabulary_size, outcomes
        self._asking = DraftMessages(plan, _BUDGET_SHARE * timeout_s, outcomes)
        self._epoch = self._told = 0  # told: tokens that the draft knows to be committed
        self._draft: DraftEndpoint | None = None
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._up: asyncio.Queue[draft_pb2.DraftRequest] = asyncio.Queue()
        self._behind = (
            False  # asked, and not answered in time: not waited for until it answers again
        )
        self._inbox = Inbox()
        self._changed = asyncio.Event()  # a block came, or the stream ended
        self.last_problem = ""
        self.waited_s = 0.0
        """For the last proposal."""
        self.was_foreseen = False
        """Whether that was drafted ahead."""
        self.was_excused = False
        """Whether that was waited for in vain, for once."""

    async def close(self) -> None:
        """Ends the stream, which frees the draft's row."""
        call, reading = self._call, self._reading
        self._call = self._reading = None
        if self._draft:
            self._draft.sessions -= 1
            self._draft = None
        if call is not None:
            call.cancel()
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def begin(self, tokens: Sequence[int], wanted: ProposalRequest) -> None:
        """Opens a session on the committed tokens with whichever draft service can be used now."""
        draft = self._drafts.pick()
        if draft is None or wanted.k <= 0:
            return
        self._epoch += 1
        # A draft that failed others lately has to answer first before anybody waits for it.
        self._draft, self._behind, self._inbox = draft, not draft.trusted, Inbox()
        draft.sessions += 1
        self._up = asyncio.Queue()
        self._up.put_nowait(
            draft_pb2.DraftRequest(open=self._asking.opening(self._epoch, tokens, wanted))
        )
        self._inbox.asked(len(tokens))
        self._told = len(tokens)
        self._call = draft.open(_drain(self._up), request_id())
        self._reading = asyncio.create_task(self._read(draft, self._call, self._epoch))

    async def propose(self, tokens: Sequence[int], wanted: ProposalRequest) -> Proposal:
        """The block on the committed tokens, waited for within the timeout; else nothing, at once
        if known.

        `last_problem` then says why.
        """
        self.last_problem, self.waited_s, self.was_foreseen, self.was_excused = (
            "",
            0.0,
            False,
            False,
        )
        if self._call is None:
            await self._reopen(tokens, wanted)
            self.last_problem = (self._drafts.unused_reason and "mismatch") or "lost"
            return NOTHING
        began = time.perf_counter()
        deadline = self._inbox.asked_at.get(len(tokens), began) + self._timeout_s
        while (found := self._inbox.find(tokens)) is None:
            if self._call is None:
                self.last_problem = "lost"
                return NOTHING
            left = deadline - time.perf_counter()
            if self._behind or left <= 0:
                self.last_problem, self.waited_s = "late", time.perf_counter() - began
                if self._draft and not self._behind:
                    self.was_excused = self._draft.late(self._timeout_s)
                self._behind = True
                return NOTHING
            self._changed.clear()
            try:
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets the result.
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue
        self.waited_s = time.perf_counter() - began
        return self._use(*found, wanted)

    def foreseen(
        self, tokens: Sequence[int], wanted: ProposalRequest
    ) -> tuple[int, Proposal] | None:
        """The block, by its id, with a proposal on just these tokens that was drafted ahead;

        None if there is none.
        """
        found = self._inbox.find(tokens)
        if found is None:
            return None
        self.last_problem, self.waited_s = "", 0.0
        proposal = self._use(*found, wanted)
        return None if self._call is None else (found[0].block.block_id, proposal)

    def missed(self, base_len: int) -> str:
        """Why a verification on this base would find nothing drafted ahead;

        empty if nothing was to be.
        """
        if (
            not self._outcomes
            or self._call is None
            or self._draft is None
            or not self._draft.branches
        ):
            return ""
        return "unforeseen" if self._inbox.has_outcomes(base_len) else "late"

    async def commit(
        self,
        tokens: Sequence[int],
        wanted: ProposalRequest,
        *,
        block_id: int = 0,
        explicit: Sequence[int] | None = None,
    ) -> None:
        """Tells the draft what was committed since the last time, and asks for tokens on it, or on
        what may follow.

        A draft that is behind is told when it has answered what it was asked before.

        Args:
            block_id: of the block whose proposal the target verifies now.
            explicit: what it verifies instead; None with no block either while it waits for one.
        """
        if self._call is None or (self._behind and not self._answer_is_overdue):
            return  # a draft that is behind would be interrupted with every round, and never answer
        base_len, self._told = self._told, len(tokens)
        message = self._asking.commit(
            base_len, tokens[base_len:], wanted, self._until_wanted_s(wanted.step_s)
        )
        if explicit is not None:
            message.explicit_ids.ids.extend(explicit)
            message.explicit_ids.SetInParent()
        elif block_id:
            message.block_id = block_id
        self._metrics.discarded_blocks.labels("unused").inc(self._inbox.forget(base_len))
        self._inbox.asked(len(tokens))
        self._metrics.draft_bytes.labels("sent").inc(message.ByteSize())
        self._up.put_nowait(draft_pb2.DraftRequest(commit=message))
        # One turn of the event loop, in which the message leaves: what the caller does next can
        # wait.
        await asyncio.sleep(0)

    @property
    def is_open(self) -> bool:
        """Whether a draft service follows the sequence."""
        return self._call is not None

    @property
    def is_waited_for(self) -> bool:
        """Whether the next round will wait for the draft."""
        return self.is_open and not self._behind

    @property
    def times(self) -> DraftTimes | None:
        """What proposals of the draft service cost; None without one."""
        return self._draft.times if self._draft else None

    async def _reopen(self, tokens: Sequence[int], wanted: ProposalRequest) -> None:
        if self._draft is None:
            await self.begin(tokens, wanted)
            # Its first block builds on tokens that are history by the time it comes: it is no
            # proposal but the sign that the draft has caught up.
            self._behind = True

    @property
    def _answer_is_overdue(self) -> bool:
        return time.perf_counter() - self._inbox.asked_at.get(self._told, 0.0) > self._timeout_s

    def _until_wanted_s(self, step_s: float) -> float:
        """Of the time of a verification, what is left for the draft to work in."""
        return max(step_s - self._draft.times.network_s, step_s / 4) if self._draft else step_s

    def _use(
        self, received: Received, outcome: draft_pb2.Outcome, wanted: ProposalRequest
    ) -> Proposal:
        """An outcome's proposal, checked."""
        received.used, self.was_foreseen = True, bool(outcome.path)
        base_len, block = received.block.base_len, received.block
        round_trip_s = received.at - self._inbox.asked_at.get(base_len, received.at)
        self._metrics.draft_round_trip.observe(round_trip_s)
        self._metrics.draft_wait.observe(self.waited_s)
        self._metrics.draft_hidden.inc(max(0.0, round_trip_s - self.waited_s))
        try:
            proposal = proposal_from(outcome.proposal, self._vocabulary_size)
            proposal = proposal.first(wanted.k, wanted.alternatives)
        except MessageError as error:
            self._lose(f"sent a bad block: {error}")
            self._metrics.discarded_blocks.labels("invalid").inc()
            self.last_problem = "refused"
            return NOTHING
        if not outcome.path and self._draft:
            self._draft.times.proposed(round_trip_s, block.draft_s, len(outcome.proposal.ids))
        if not proposal.ids:
            self.last_problem = "empty"
        return proposal

    async def _read(self, draft: DraftEndpoint, call: Any, epoch: int) -> None:
        """Receives blocks until the stream ends."""
        reason = "ended the stream"
        try:
            async for response in call:
                if response.WhichOneof("message") == "opened":
                    if not draft.check(response.opened):
                        reason = ""
                        break
                else:
                    self._receive(draft, response.block, epoch)
                self._changed.set()
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        if self._call is call:
            self._lose(reason)

    def _receive(self, draft: DraftEndpoint, block: draft_pb2.Block, epoch: int) -> None:
        self._metrics.draft_bytes.labels("received").inc(block.ByteSize())
        if refused := "epoch" if block.epoch != epoch else self._inbox.receive(block):
            self._metrics.discarded_blocks.labels(refused).inc()
            return
        if all(outcome.path for outcome in block.outcomes):
            draft.times.pushed(
                block.draft_s, max((len(o.proposal.ids) for o in block.outcomes), default=0)
            )
        draft.answered()
        self._behind = False

    def _lose(self, reason: str) -> None:
        call, draft = self._call, self._draft
        self._call, self._draft, self._inbox = None, None, Inbox()
        if call is not None:
            call.cancel()
        if draft is not None:
            draft.sessions -= 1
            if reason:
                draft.failed(reason)
        self._changed.set()


async def _drain(
    queue: "asyncio.Queue[draft_pb2.DraftRequest]",
) -> AsyncIterator[draft_pb2.DraftRequest]:
    while True:
        yield await queue.get()
