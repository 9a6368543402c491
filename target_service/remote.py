"""One sequence followed by a draft service: opens the stream, commits, receives blocks, survives its loss.

Never raises for what the draft does: the worst answer is no proposal. Knows nothing of what is done
then.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio

from decoding.proposal import NOTHING, Proposal
from foredraft.v1 import draft_pb2
from serving.logs import request_id
from serving.messages import RULES, MessageError, proposal_from
from serving.metrics import TargetMetrics
from target_service.drafts import Draft, Drafts
from target_service.plan import Plan

# Of the time that a block is waited for, the part in which tokens may be drawn. With an early stop the time of a
# proposal depends on its tokens; a block dropped for having many would bias what is accepted under the rejection
# rule. So the draft is told to end in time, and what comes too late was held up by something else.
_BUDGET_SHARE = 0.7


class RemoteSession:
    """Blocks of one sequence, whichever draft service makes them."""

    def __init__(
        self, drafts: Drafts, plan: Plan, vocabulary_size: int, timeout_s: float, metrics: TargetMetrics
    ) -> None:
        self._drafts, self._plan, self._timeout_s, self._metrics = drafts, plan, timeout_s, metrics
        self._vocabulary_size = vocabulary_size
        self._epoch = 0
        self._draft: Draft | None = None
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._up: asyncio.Queue[draft_pb2.DraftRequest] = asyncio.Queue()
        self._asked_at = 0.0
        self._behind = False  # asked, and not answered in time: not waited for until it answers again
        self._block: draft_pb2.Block | None = None
        self._changed = asyncio.Event()  # a block came, or the stream ended
        self.last_problem = ""

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

    async def begin(self, tokens: Sequence[int], k: int) -> None:
        """Opens a session on the committed tokens with whichever draft service can be used now."""
        draft = self._drafts.pick()
        if draft is None or k <= 0:
            return
        self._epoch += 1
        # A draft that failed others lately has to answer first before anybody waits for it.
        self._draft, self._behind, self._block = draft, not draft.trusted, None
        draft.sessions += 1
        self._up = asyncio.Queue()
        self._up.put_nowait(draft_pb2.DraftRequest(open=self._opening(tokens, k)))
        self._asked_at = time.perf_counter()
        self._call = draft.open(_drain(self._up), request_id())
        self._reading = asyncio.create_task(self._read(draft, self._call, self._epoch))

    async def propose(self, tokens: Sequence[int], k: int) -> Proposal:
        """The block on the committed tokens, waited for within the timeout; else nothing, at once if known.

        `last_problem` then says why.
        """
        self.last_problem = ""
        if self._call is None:
            await self._reopen(tokens, k)
            self.last_problem = (self._drafts.unused_reason and "mismatch") or "lost"
            return NOTHING
        deadline = self._asked_at + self._timeout_s
        while (block := self._current(tokens)) is None:
            if self._call is None:
                self.last_problem = "lost"
                return NOTHING
            left = deadline - time.perf_counter()
            if self._behind or left <= 0:
                if not self._behind:
                    self._behind = True
                    if self._draft:
                        self._draft.late()
                self.last_problem = "late"
                return NOTHING
            self._changed.clear()
            try:
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets the result.
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return self._proposal(block, k)

    async def commit(
        self, base_len: int, accepted: Sequence[int], next_id: int, k: int, explicit: Sequence[int] | None = None
    ) -> None:
        """Tells the draft what was committed and asks for k tokens on it.

        Args:
            explicit: what the target verifies meanwhile; None while it waits for the block.
        """
        if self._call is None:
            return
        message = draft_pb2.Commit(base_len=base_len, accepted_ids=accepted, next_id=next_id, k=k)
        message.budget_s = _BUDGET_SHARE * self._timeout_s
        if explicit is not None:
            message.explicit_ids.ids.extend(explicit)
            message.explicit_ids.SetInParent()
        self._asked_at = time.perf_counter()
        self._up.put_nowait(draft_pb2.DraftRequest(commit=message))
        # One turn of the event loop, in which the message leaves: what the caller does next can wait.
        await asyncio.sleep(0)

    @property
    def is_open(self) -> bool:
        """Whether a draft service follows the sequence."""
        return self._call is not None

    @property
    def is_waited_for(self) -> bool:
        """Whether the next round will wait for the draft."""
        return self.is_open and not self._behind

    async def _reopen(self, tokens: Sequence[int], k: int) -> None:
        if self._draft is None:
            await self.begin(tokens, k)
            # Its first block builds on tokens that are history by the time it comes: it is no
            # proposal but the sign that the draft has caught up.
            self._behind = True

    def _opening(self, tokens: Sequence[int], k: int) -> draft_pb2.Open:
        plan = self._plan
        sampling = plan.sampling
        return draft_pb2.Open(
            epoch=self._epoch,
            prompt_ids=tokens[: sampling.prompt_length],
            generated_ids=tokens[sampling.prompt_length :],
            sampling=plan.config,
            rule=RULES[sampling.rule],
            seed=sampling.seed,
            sequence_index=sampling.sequence_index,
            max_length=plan.max_length,
            k=k,
            budget_s=_BUDGET_SHARE * self._timeout_s,
            cache_scope=bytes.fromhex(plan.owner),
        )

    def _current(self, tokens: Sequence[int]) -> draft_pb2.Block | None:
        """The block on these tokens, if it is there."""
        block, self._block = self._block, None
        if block is None or block.base_len != len(tokens):
            if block is not None:
                self._metrics.stale_blocks.inc()
            return None
        return block

    def _proposal(self, block: draft_pb2.Block, k: int) -> Proposal:
        self._metrics.draft_round_trip.observe(time.perf_counter() - self._asked_at)
        outcome = next((o for o in block.outcomes if not o.path), None)
        if outcome is None:
            self.last_problem = "empty"
            return NOTHING
        try:
            proposal = proposal_from(outcome.proposal, self._vocabulary_size).first(k)
        except MessageError as error:
            self._lose(f"sent a bad block: {error}")
            self.last_problem = "refused"
            return NOTHING
        if not proposal.ids:
            self.last_problem = "empty"
        return proposal

    async def _read(self, draft: Draft, call: Any, epoch: int) -> None:
        """Receives blocks until the stream ends; only the newest is kept."""
        reason = "ended the stream"
        try:
            async for response in call:
                if response.WhichOneof("message") == "opened":
                    if not draft.check(response.opened):
                        reason = ""
                        break
                elif response.block.epoch != epoch:
                    self._metrics.stale_blocks.inc()
                else:
                    draft.answered()
                    self._behind = False
                    self._block = response.block
                self._changed.set()
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        if self._call is call:
            self._lose(reason)

    def _lose(self, reason: str) -> None:
        call, draft = self._call, self._draft
        self._call, self._draft, self._block = None, None, None
        if call is not None:
            call.cancel()
        if draft is not None:
            draft.sessions -= 1
            if reason:
                draft.failed(reason)
        self._changed.set()


async def _drain(queue: "asyncio.Queue[draft_pb2.DraftRequest]") -> AsyncIterator[draft_pb2.DraftRequest]:
    while True:
        yield await queue.get()
