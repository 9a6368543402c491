"""Where a round's proposal comes from: the draft service, n-grams in the target, or nothing.

One `Drafter` follows one sequence. What it falls back to costs speed, never output. Knows nothing of
verification.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from decoding.ngram import NgramDrafter
from decoding.pace import StepTimes
from decoding.proposal import NOTHING, Proposal, Verdict
from serving.metrics import TargetMetrics
from target_service.config import TargetSettings
from target_service.drafts import Drafts
from target_service.goodput import Estimates, Goodput
from target_service.plan import Plan
from target_service.remote import RemoteSession

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
        metrics: TargetMetrics,
    ) -> None:
        self._plan, self._remote, self._estimates = plan, remote, estimates
        # Where the request does not say how many tokens every round is to have.
        chooses = remote is not None and plan.config.num_assistant_tokens_schedule == "goodput"
        self._goodput = Goodput(estimates, plan.config.num_assistant_tokens) if chooses else None
        self._ngrams, self._only_ngrams, self._metrics = ngrams, only_ngrams, metrics
        self._index: NgramDrafter | None = None
        self._prepared: tuple[Proposal, str] | None = None  # and why, known when the draft was told the last verdict
        self._k = 0  # of the proposal that is under verification
        self._last = NOTHING
        self._waited_s, self._began_s, self._missed = 0.0, 0.0, ""
        self._eos = frozenset(plan.sampling.eos_token_id)
        self.fallback = ""  # why the last proposal was not the drafter's own

    async def begin(self, tokens: Sequence[int], k: int) -> None:
        """Called once, as soon as the sequence has its row."""
        if self._remote:
            self._k = self._bounded(k)
            await self._remote.begin(tokens, min(k, max(self._k, 1)), self._step_s(k))

    async def propose(self, tokens: Sequence[int], k: int) -> Proposal:
        """At most k tokens to verify on the committed ones."""
        prepared, self._prepared = self._prepared, None
        k, self._waited_s = min(k, self._k) if self._goodput else k, 0.0
        self._began_s = time.perf_counter()
        self.fallback = ""
        if k <= 0:
            self._last = NOTHING
        elif prepared is not None:
            self._last, self.fallback = prepared[0].first(k), prepared[1]
        else:
            self._last = await self._ask(tokens, k)
        return self._last

    async def _ask(self, tokens: Sequence[int], k: int) -> Proposal:
        if self._remote:
            proposal = await self._remote.propose(tokens, k)
            self._waited_s = self._remote.waited_s
            self._count("late" if self._remote.was_foreseen else "")
            if proposal.ids:
                return proposal
            self.fallback = self._remote.last_problem
        return await self._look_up(tokens, k)

    async def commit(self, tokens: Sequence[int], verdict: Verdict, k: int) -> None:
        """Tells whoever drafts what became of the last proposal; `tokens` hold the verdict's already."""
        remote, base_len = self._remote, len(tokens) - len(verdict.ids)
        if self._goodput:
            round_s, own = time.perf_counter() - self._began_s, self._last.made_by == "ngram"
            self._goodput.observe(len(self._last.ids), verdict.accepted, round_s, self._waited_s, own)
        self._k = k = self._bounded(k)
        if not remote or not remote.is_open or not (k or self._last.ids):
            return  # plain rounds are told together, once a proposal is wanted again
        foreseen = remote.foreseen(tokens, k) if k > 0 else None
        self._missed = remote.missed(base_len) if k > 0 and self._last.ids else ""
        if foreseen is not None:
            self._count("in_time")
        if foreseen is not None and foreseen[1].ids:
            self._prepared = foreseen[1], ""
            await remote.commit(tokens, k, block_id=foreseen[0], step_s=self._step_s(k))
        elif remote.is_waited_for and k > 0 and await self._waits(tokens, k):
            await remote.commit(tokens, k, step_s=self._step_s(k))
        else:
            # The round goes on without it: it is told with what.
            found = await self._look_up(tokens, k)
            self._prepared = found, "cheaper" if remote.is_waited_for else "late"
            self._count("")
            await remote.commit(tokens, k, explicit=found.ids, step_s=self._step_s(k))

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

    def _bounded(self, k: int) -> int:
        times = self._remote.times if self._remote else None
        return self._goodput.k(k, times) if self._goodput else k

    def _step_s(self, k: int) -> float:
        return self._estimates.step_s(k) or 0.0

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
        self, settings: TargetSettings, drafts: Drafts, vocabulary_size: int, pace: StepTimes, metrics: TargetMetrics
    ) -> None:
        self._settings, self._drafts, self._metrics = settings, drafts, metrics
        self._vocabulary_size = vocabulary_size
        self._estimates = Estimates(pace)

    @asynccontextmanager
    async def follow(self, plan: Plan) -> AsyncIterator[Drafter]:
        """A drafter for the life of a sequence."""
        only_ngrams = plan.config.HasField("prompt_lookup_num_tokens")
        remote = None
        if self._drafts.all and not only_ngrams and plan.config.num_assistant_tokens > 0:
            settings = self._settings
            remote = RemoteSession(
                self._drafts, plan, self._vocabulary_size, settings.draft_timeout, settings.outcomes, self._metrics
            )
        ngrams = only_ngrams or (remote is not None and self._settings.fallback == "ngram")
        drafter = Drafter(plan, remote, self._estimates, ngrams, only_ngrams, self._metrics)
        try:
            yield drafter
        finally:
            await drafter.close()

    @property
    def unused_reason(self) -> str:
        """Why no draft service can be used at all."""
        return self._drafts.unused_reason
