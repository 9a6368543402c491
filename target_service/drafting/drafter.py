"""Where the proposals of one sequence come from: a draft service, n-gram lookup, or nowhere.

A fallback costs speed, never output. This module knows nothing of verification.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foredraft_engine.proposal import NOTHING, Proposal, Verdict
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_answer import Foresight
from target_service.drafting.draft_messages import ProposalRequest
from target_service.drafting.forced_tokens import ForcedTokens
from target_service.drafting.goodput import Goodput
from target_service.drafting.ngram_lookup import Lookup, NgramLookup
from target_service.drafting.remote_session import RemoteSession
from target_service.drafting.round_proposal import RoundProposal
from target_service.drafting.shared_estimates import SharedEstimates


@dataclass(frozen=True, slots=True)
class ProposalSources:
    """What makes the proposals of one sequence, and what chooses their length."""

    remote: RemoteSession | None = None
    ngrams: NgramLookup | None = None
    forced: ForcedTokens | None = None
    """Goes before n-grams; None if the text may be anything."""
    goodput: Goodput | None = None
    """Chooses the draft length, and in each round between the two; None if the call sets the draft
    length itself, or if there is no draft service.
    """


class Drafter:
    """The proposals of one sequence."""

    def __init__(
        self,
        sources: ProposalSources,
        estimates: SharedEstimates,
        metrics: TargetMetrics,
        observe_rule: Callable[[int, float, float], None] | None = None,
    ) -> None:
        """Begins without a draft session.

        Args:
            observe_rule: is told the tokens of each round, the time of a plain round and the time
                that it took; None if the call chose its rule itself.
        """
        self._observe_rule = observe_rule
        self._remote, self._ngrams, self._forced = sources.remote, sources.ngrams, sources.forced
        self._goodput, self._estimates, self._metrics = sources.goodput, estimates, metrics
        self._request = ProposalRequest(0)  # of the next proposal
        self._drafted_before = False  # whether the proposal before it was asked for
        # The next proposal, if it is known since the last commit.
        self._prepared: RoundProposal | None = None
        # What was asked for ahead of the last verdict; None if the verdict has been counted, or is
        # not counted at all.
        self._foresight: Foresight | None = None

    def begin(self, tokens: Sequence[int], k: int) -> None:
        """Opens a draft session, as soon as the sequence has its row."""
        if self._ngrams and k > 0:
            self._ngrams.begin(tokens)
        if self._remote:
            self._request = self._next_request(k)
            # The stream is opened also where the first round decodes plainly.
            first_k = min(k, max(self._request.k, 1))
            self._remote.begin(tokens, replace(self._request, k=first_k))
            self._drafted_before = True

    async def propose(self, tokens: Sequence[int], k: int) -> RoundProposal:
        """Returns at most k tokens to verify after the committed ones."""
        prepared, self._prepared = self._prepared, None
        requested_at = time.perf_counter()
        if prepared is not None:
            proposal = prepared.proposal.first(k, self._request.alternatives)
            return replace(prepared, proposal=proposal, requested_at=requested_at)
        request = replace(self._request, k=min(k, self._request.k) if self._goodput else k)
        fallback, waited_s, excused_s = "", 0.0, 0.0
        if self._remote and request.k > 0:
            answer = await self._remote.propose(tokens, request)
            self._count_outcome("late" if answer.drafted_ahead else "")
            if answer.proposal.ids:
                drafted = RoundProposal.of(answer)
                if self._forced:
                    drafted = drafted.after(self._forced.in_front(tokens, drafted.proposal, k))
                return replace(drafted, requested_at=requested_at)
            fallback, waited_s = answer.problem, answer.waited_s
            excused_s = waited_s if answer.excused else 0.0
        found = (await self._look_up(tokens, k)).proposal
        return replace(
            self._without_draft(found, fallback),
            requested_at=requested_at,
            waited_s=waited_s,
            excused_s=excused_s,
        )

    async def commit(
        self, tokens: Sequence[int], drafted: RoundProposal, verdict: Verdict, k: int
    ) -> None:
        """Tells the draft service what became of a proposal, and requests the next one.

        Args:
            tokens: the committed tokens, those of the verdict included.
            drafted: the proposal that was verified.
            verdict: what the verification said.
            k: the largest number of tokens in the next proposal.
        """
        remote, base_len = self._remote, len(tokens) - len(verdict.ids)
        round_s = time.perf_counter() - drafted.requested_at - drafted.excused_s
        if self._observe_rule and (plain_s := self._estimates.round_s(0)):
            self._observe_rule(len(verdict.ids), plain_s, round_s)
        if self._goodput:
            waited_s = drafted.waited_s - drafted.excused_s
            self._goodput.observe(
                drafted.proposal,
                verdict,
                round_s,
                waited_s,
                looked_up=drafted.looked_up,
                beside_draft=drafted.beside_draft,
            )
        before = self._request
        self._drafted_before = before.k > 0
        proposed = bool(drafted.proposal.ids) and before.k > 0
        self._request = request = self._next_request(k)
        if not remote or not remote.is_open or not (request.k or proposed):
            return  # rounds without it are sent together, once a proposal is requested again
        answer = remote.drafted_ahead(tokens, request) if request.k > 0 else None
        self._foresight = remote.foresight(base_len) if request.k > 0 and proposed else None
        if answer is not None:
            self._count_outcome("in_time")
        found = await self._look_up(tokens, k) if self._goodput else Lookup()
        has_come = answer is not None and bool(answer.proposal.ids)
        if answer is not None and has_come and not self._prefers(found, answer.proposal):
            self._prepared = RoundProposal.of(answer)
            await remote.commit(tokens, request, block_id=answer.block_id)
        elif not has_come and remote.is_waited_for and self._waits(found, before.outcomes):
            await remote.commit(tokens, request)
        else:
            await self._go_on(remote, tokens, k)

    async def close(self) -> None:
        """Frees what the draft service holds."""
        if self._remote:
            await self._remote.close()
        if self._ngrams:
            await self._ngrams.close()

    async def _go_on(self, remote: RemoteSession, tokens: Sequence[int], k: int) -> None:
        """Prepares a round without the draft service, which learns what is verified instead."""
        found = (await self._look_up(tokens, k)).proposal
        wanted = "cheaper" if remote.is_waited_for else "late"
        self._prepared = self._without_draft(found, wanted if self._request.k > 0 else "")
        self._count_outcome("")
        await remote.commit(tokens, self._request, explicit_ids=found.ids)

    def _without_draft(self, found: Proposal, fallback: str) -> RoundProposal:
        """Returns a round that no draft service proposes for.

        One that was asked for the proposal before may still be drafting.
        """
        is_asked = self._request.k > 0 or self._drafted_before
        beside_draft = self._remote is not None and self._remote.is_open and is_asked
        return RoundProposal(found, fallback, looked_up=True, beside_draft=beside_draft)

    def _prefers(self, found: Lookup, come: Proposal) -> bool:
        """Returns whether the next round takes what was looked up, though the draft is there."""
        asked, ids = self._request, found.proposal.ids
        if found.proposal.made_by == "grammar":
            return come.ids[: len(ids)] != ids
        return self._goodput is not None and self._goodput.prefers(
            found, asked.k, asked.alternatives
        )

    def _waits(self, found: Lookup, outcomes: int) -> bool:
        """Returns whether the next round waits for the draft, as nothing was drafted ahead, though
        that was to be done for some outcomes.
        """
        times, k = self._remote.times if self._remote else None, self._request.k
        if self._goodput is None or times is None:
            return k > 0
        return k > 0 and self._goodput.waits(k, outcomes, times, found)

    def _count_outcome(self, hit: str) -> None:
        """Counts the last verification, once: a hit "in_time" or "late", or empty for a miss."""
        foresight, self._foresight = self._foresight, None
        if foresight:
            if self._remote and self._remote.times:
                self._remote.times.observe_outcome(foresight.outcomes, bool(hit))
            self._metrics.observe_foresight(hit, foresight.missed)

    def _next_request(self, k: int) -> ProposalRequest:
        """Returns the size of the next proposal, at most k tokens."""
        times, alternatives = self._remote.times if self._remote else None, 0
        if self._goodput:
            k = self._goodput.k(k, times)
            alternatives = self._goodput.alternatives(k, times)
        step_s = self._estimates.step_s(k + alternatives) or 0.0
        outcomes = 0
        if self._remote:
            outcomes = self._remote.outcomes(k, self._estimates.round_s(k + alternatives))
        return ProposalRequest(k, alternatives, step_s, outcomes)

    async def _look_up(self, tokens: Sequence[int], k: int) -> Lookup:
        forced = self._forced.propose(tokens, k) if self._forced else NOTHING
        if forced.ids:
            return Lookup(forced, 1.0 + len(forced.ids))
        return await self._ngrams.propose(tokens, k) if self._ngrams else Lookup()
