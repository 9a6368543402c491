"""The blocks of one stream: commits come in, proposals and outcomes drafted ahead go out.

One task reads commits, another drafts. This module knows nothing of models: it hands over to the
session.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from draft_service.sequence_record import SequenceRecord
from draft_service.session import DraftSession
from foredraft.v1 import draft_pb2
from foredraft.wire.limits import MAX_DRAFT_LENGTH
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.proposal import NOTHING, Outcome, Proposal
from foredraft_engine.speculation.draft_options import EarlyVerdict
from foredraft_engine.speculation.tree_job import DraftedAhead
from foredraft_serving.messages import proposal_message
from foredraft_serving.ranges import check_asked

# Blocks that wait for the target, from which on its commits wait too.
_MOST_UNREAD = 64


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What an `Open` or a `Commit` asks for."""

    k: int
    budget_s: float
    outcomes: int
    verification_s: float
    alternatives: int
    began: float

    @staticmethod
    def of(message: draft_pb2.Open | draft_pb2.Commit) -> "_Wanted":
        m = message
        return _Wanted(
            m.k, m.budget_s, m.outcomes, m.verification_s, m.alternatives, began=time.perf_counter()
        )


class Blocks:
    """Makes the blocks of one stream, as commits ask for them."""

    def __init__(
        self,
        session: DraftSession,
        opened: draft_pb2.Open,
        requests: AsyncIterator[draft_pb2.DraftRequest],
        record: SequenceRecord,
        check_ids: Callable[[str, Sequence[int]], None],
    ) -> None:
        self._session, self._epoch, self._requests, self._record = (
            session,
            opened.epoch,
            requests,
            record,
        )
        self._check_ids = check_ids
        self._first = _Wanted.of(opened)
        # Holds blocks, then None when the target has closed its side, or the error of either task.
        self._answers: asyncio.Queue[draft_pb2.DraftResponse | Exception | None] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._drafting: asyncio.Task[None] | None = None
        self._sent = 0
        self._own = NOTHING  # the proposal that the target verifies, if it came from here
        self._ahead = DraftedAhead()  # what was drafted ahead of the base, and sent
        self._growing: EarlyVerdict | None = None  # the verdict of the tree that is being drafted
        self._next: _Wanted | None = None  # what a commit asked for while the tree grew

    async def run(self) -> AsyncGenerator[draft_pb2.DraftResponse, None]:
        """Yields blocks until the target closes its side."""
        reading = asyncio.create_task(self._read())
        try:
            while (answer := await self._answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                self._has_room.set()
                yield answer
        finally:
            # Both are cancelled at once, before anything is awaited: a stream that is left in a
            # hurry must not leave work on the row.
            reading.cancel()
            if self._drafting is not None:
                self._drafting.cancel()
            await asyncio.wait([reading])
            await self._give_up()

    async def _read(self) -> None:
        try:
            self._start(self._first, None)
            async for request in self._requests:
                if request.WhichOneof("message") != "commit":
                    raise InvalidFieldError("open", "comes once, commits after it")
                # A target that does not read is not read either: gRPC then holds its commits.
                await self._has_room.wait()
                self._check(request.commit)
                await self._take(request.commit)
            self._answers.put_nowait(None)
        except Exception as error:  # the stream ends with this error
            self._answers.put_nowait(error)

    def _check(self, commit: draft_pb2.Commit) -> None:
        if (explicit := len(commit.explicit_ids.ids)) > MAX_DRAFT_LENGTH:
            reason = f"has {explicit} tokens; a proposal has at most {MAX_DRAFT_LENGTH}"
            raise InvalidFieldError("explicit_ids", reason)
        self._session.check_commit(commit.base_len, len(commit.accepted_ids))
        self._check_ids("accepted_ids", commit.accepted_ids)
        self._check_ids("next_id", [commit.next_id])
        self._check_ids("explicit_ids", commit.explicit_ids.ids)
        check_asked(commit)

    async def _take(self, commit: draft_pb2.Commit) -> None:
        path, wanted = (*commit.accepted_ids, commit.next_id), _Wanted.of(commit)
        explicit = commit.WhichOneof("verifying") == "explicit_ids"
        if self._growing is None or explicit or not wanted.k:
            await self._give_up()
        self._record.committed(self._own, commit.accepted_ids)
        self._session.commit(commit.base_len, commit.accepted_ids, commit.next_id)
        if self._growing is not None:
            # The branch that came true is on its way, and needs fewer steps than a new proposal.
            self._next, self._growing.path = wanted, path
            return
        verified = self._learn(path)
        self._own = NOTHING if explicit else verified or NOTHING
        self._start(
            wanted,
            Proposal(tuple(commit.explicit_ids.ids)) if explicit else verified,
            only_ahead=explicit,
        )

    def _learn(self, path: tuple[int, ...]) -> Proposal | None:
        """Returns the proposal that was drafted ahead for this verdict, None if there is none."""
        ahead, self._ahead = self._ahead, DraftedAhead()
        self._session.observe(ahead.preview, path)
        found = next((o.proposal for o in ahead.outcomes if o.path == path), None)
        self._record.foresaw(ahead.outcomes, found)
        return found

    def _start(self, wanted: _Wanted, verified: Proposal | None, only_ahead: bool = False) -> None:
        """Starts to draft.

        Args:
            verified: the proposal that the target verifies already; None if it waits for one.
        """
        ahead = wanted.outcomes > 0 and self._session.can_branch
        if only_ahead and not ahead:
            verified = None  # nobody waits for this block, which shows that the draft is there
        if wanted.k > 0 and (verified is None or ahead):
            self._drafting = asyncio.create_task(self._work(wanted, verified))

    async def _work(self, wanted: _Wanted, verified: Proposal | None) -> None:
        try:
            while True:
                began = wanted.began
                if verified is None:
                    verified = self._own = await self._propose(wanted)
                    began = time.perf_counter()
                if not wanted.outcomes or not self._session.can_branch:
                    return
                turned_out = await self._draft_ahead(wanted, verified, began)
                if turned_out is None or self._next is None:
                    return
                wanted, self._next = self._next, None
                verified = self._learn(turned_out)
                self._own = verified or NOTHING
        except Exception as error:  # the stream ends with this error
            self._answers.put_nowait(error)

    async def _propose(self, wanted: _Wanted) -> Proposal:
        base_len = len(self._session.tokens)
        proposal = await self._session.propose(wanted.k, wanted.budget_s, wanted.alternatives)
        spent_s = self._send(base_len, [Outcome((), proposal)], wanted.began)
        self._record.sent(proposal, spent_s)
        return proposal

    async def _draft_ahead(
        self, wanted: _Wanted, verified: Proposal, began: float
    ) -> tuple[int, ...] | None:
        """Sends what it drafted ahead; returns the verdict if that came meanwhile.

        Args:
            began: since when it was to draft ahead. A tree before this one may have delayed it,
                which the target is to know.
        """
        base_len, growing = len(self._session.tokens), EarlyVerdict()
        self._growing = growing
        try:
            ahead = await self._session.ahead(
                verified,
                wanted.k,
                wanted.outcomes,
                wanted.verification_s,
                growing,
                wanted.alternatives,
            )
        finally:
            self._growing = None
        self._ahead = ahead
        if ahead.outcomes:
            spent_s = self._send(base_len, ahead.outcomes, began)
            self._record.pushed(ahead.outcomes, spent_s)
        return growing.path

    def _send(self, base_len: int, outcomes: Sequence[Outcome], began: float) -> float:
        spent_s = time.perf_counter() - began
        self._sent += 1
        block = draft_pb2.Block(
            epoch=self._epoch,
            block_id=self._sent,
            base_len=base_len,
            outcomes=[
                draft_pb2.Outcome(path=o.path, proposal=proposal_message(o.proposal))
                for o in outcomes
            ],
            draft_s=spent_s,
        )
        self._answers.put_nowait(draft_pb2.DraftResponse(block=block))
        if self._answers.qsize() >= _MOST_UNREAD:
            self._has_room.clear()
        return spent_s

    async def _give_up(self) -> None:
        """Ends the work that a commit overtook."""
        task, self._drafting, self._next = self._drafting, None, None
        if task is not None and not task.done():
            self._record.gave_up()
            task.cancel()
            await asyncio.wait([task])
