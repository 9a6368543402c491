"""Where a round's proposal comes from: the draft service, n-grams in the target, or nothing.

One `Drafter` follows one sequence. What it falls back to costs speed, never output. Knows nothing
of verification.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from foredraft_engine.proposal import NOTHING, Proposal, Verdict
from foredraft_engine.sampling import Rule
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.speculation.ngram import NgramDrafter
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_messages import ProposalRequest
from target_service.drafting.draft_pool import DraftPool
from target_service.drafting.goodput import Estimates, Goodput
from target_service.drafting.remote_session import RemoteSession
from target_service.request.plan import Plan
from target_service.settings import TargetSettings

# Off the drafts' path n-grams are a guess: the longer the match, the longer the proposal.
_TOKENS_PER_MATCH = 3


class Drafter:
    """The proposals of one sequence."""

    def __init__(
        self,
        plan: Plan,
        remote: RemoteSession | None,
        estimates: Estimates,
        ngrams: bool,
        only_ngrams: bool,
        alternatives: int,
        metrics: TargetMetrics,
    ) -> None:
        """alternatives: to the tokens of a proposal, at most."""
        self._plan, self._remote, self._estimates = plan, remote, estimates
        # Where the request does not say how many tokens every round is to have.
        chooses = remote is not None and plan.config.num_assistant_tokens_schedule == "goodput"
        self._goodput = (
            Goodput(estimates, plan.config.num_assistant_tokens, alternatives) if chooses else None
        )
        self._ngrams, self._only_ngrams, self._metrics = ngrams, only_ngrams, metrics
        self._index: NgramDrafter | None = None
        self._prepared: tuple[Proposal, str] | None = (
            None  # and why, known when the draft was told the last verdict
        )
        self._wanted = ProposalRequest(0)  # of the next proposal
        self._last = NOTHING
        self._waited_s, self._began_s, self._missed = 0.0, 0.0, ""
        self._eos = frozenset(plan.sampling.eos_token_id)
        self.fallback = ""  # why the last proposal was not the drafter's own

    async def begin(self, tokens: Sequence[int], k: int) -> None:
        """Called once, as soon as the sequence has its row."""
        if self._remote:
            self._wanted = self._chosen(k)
            await self._remote.begin(
                tokens, replace(self._wanted, k=min(k, max(self._wanted.k, 1)))
            )

    async def propose(self, tokens: Sequence[int], k: int) -> Proposal:
        """At most k tokens to verify on the committed ones."""
        prepared, self._prepared = self._prepared, None
        k, self._waited_s = min(k, self._wanted.k) if self._goodput else k, 0.0
        wanted = replace(self._wanted, k=k)
        self._began_s = time.perf_counter()
        self.fallback = ""
        if k <= 0:
            self._last = NOTHING
        elif prepared is not None:
            self._last, self.fallback = prepared[0].first(k, wanted.alternatives), prepared[1]
        else:
            self._last = await self._ask(tokens, wanted)
        return self._last

    async def _ask(self, tokens: Sequence[int], wanted: ProposalRequest) -> Proposal:
        if self._remote:
            proposal = await self._remote.propose(tokens, wanted)
            self._waited_s = self._remote.waited_s
            if self._remote.was_excused:
                self._began_s, self._waited_s = self._began_s + self._waited_s, 0.0
            self._count("late" if self._remote.was_foreseen else "")
            if proposal.ids:
                return proposal
            self.fallback = self._remote.last_problem
        return await self._look_up(tokens, wanted.k)

    async def commit(self, tokens: Sequence[int], verdict: Verdict, k: int) -> None:
        """Tells whoever drafts what became of the last proposal;

        `tokens` hold the verdict's already.
        """
        remote, base_len = self._remote, len(tokens) - len(verdict.ids)
        if self._goodput:
            self._goodput.observe(
                self._last, verdict, time.perf_counter() - self._began_s, self._waited_s
            )
        self._wanted = wanted = self._chosen(k)
        k = wanted.k
        if not remote or not remote.is_open or not (k or self._last.ids):
            return  # plain rounds are told together, once a proposal is wanted again
        foreseen = remote.foreseen(tokens, wanted) if k > 0 else None
        self._missed = remote.missed(base_len) if k > 0 and self._last.ids else ""
        if foreseen is not None:
            self._count("in_time")
        if foreseen is not None and foreseen[1].ids:
            self._prepared = foreseen[1], ""
            await remote.commit(tokens, wanted, block_id=foreseen[0])
        elif remote.is_waited_for and k > 0 and await self._waits(tokens, k):
            await remote.commit(tokens, wanted)
        else:
            # The round goes on without it: it is told with what.
            found = await self._look_up(tokens, k)
            self._prepared = found, "cheaper" if remote.is_waited_for else "late"
            self._count("")
            await remote.commit(tokens, wanted, explicit=found.ids)

    async def _waits(self, tokens: Sequence[int], k: int) -> bool:
        """Whether the next round waits for the draft, which has drafted nothing ahead for it."""
        times = self._remote.times if self._remote else None
        if self._goodput is None or times is None:
            return True
        return self._goodput.waits(k, times, len((await self._look_up(tokens, k)).ids))

    def _count(self, hit: str) -> None:
        """The verification went as it was drafted ahead for, "in_time" or "late"; or it did not."""
        missed, self._missed = self._missed, ""
        if missed:
            if self._remote and self._remote.times:
                self._remote.times.foresaw(bool(hit))
            self._metrics.observe_foresight(hit, missed)

    def _chosen(self, k: int) -> ProposalRequest:
        """Of the next proposal, with k tokens at most."""
        times, beside = self._remote.times if self._remote else None, 0
        if self._goodput:
            k = self._goodput.k(k, times)
            beside = self._goodput.alternatives(k, times)
        return ProposalRequest(k, beside, self._estimates.step_s(k + beside) or 0.0)

    async def close(self) -> None:
        """Frees what the draft service holds."""
        if self._remote:
            await self._remote.close()

    async def _look_up(self, tokens: Sequence[int], k: int) -> Proposal:
        if not self._ngrams or k <= 0:
            return NOTHING
        if self._index is None:
            # Off the event loop: a long prompt takes a while, once.
            self._index = await asyncio.to_thread(
                NgramDrafter, list(tokens), max_ngram=self._plan.config.max_matching_ngram_size
            )
        self._index.extend(tokens[len(self._index.tokens) :])
        if not self._only_ngrams:
            k = min(k, _TOKENS_PER_MATCH * self._index.match_length)
        return self._index.propose(k, self._eos)


class Drafters:
    """Makes a drafter for each sequence, as its parameters ask."""

    def __init__(
        self,
        settings: TargetSettings,
        drafts: DraftPool,
        vocabulary_size: int,
        engine: Engine,
        metrics: TargetMetrics,
    ) -> None:
        self._settings, self._drafts, self._metrics = settings, drafts, metrics
        self._vocabulary_size = vocabulary_size
        self._estimates = Estimates(engine.step_times)
        self._alternatives = min(settings.alternatives, engine.rows.spare)

    @asynccontextmanager
    async def follow(self, plan: Plan) -> AsyncIterator[Drafter]:
        """A drafter for the life of a sequence."""
        only_ngrams = plan.config.HasField("prompt_lookup_num_tokens")
        remote = None
        if self._drafts.all and not only_ngrams and plan.config.num_assistant_tokens > 0:
            settings = self._settings
            remote = RemoteSession(
                self._drafts,
                plan,
                self._vocabulary_size,
                settings.draft_timeout,
                settings.outcomes,
                self._metrics,
            )
        ngrams = only_ngrams or (remote is not None and self._settings.fallback == "ngram")
        by_equality = plan.sampling.rule is not Rule.REJECTION
        alternatives = self._alternatives if by_equality else 0
        drafter = Drafter(
            plan, remote, self._estimates, ngrams, only_ngrams, alternatives, self._metrics
        )
        try:
            yield drafter
        finally:
            await drafter.close()

    @property
    def unused_reason(self) -> str:
        """Why no draft service can be used at all."""
        return self._drafts.unused_reason
