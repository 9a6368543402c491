"""Where a round's proposal comes from: the draft service, n-grams in the target, or nothing.

One `Drafter` follows one sequence. What it falls back to costs speed, never output. Knows nothing of
verification.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from decoding.ngram import NgramDrafter
from decoding.proposal import NOTHING, Proposal, Verdict
from serving.metrics import TargetMetrics
from target_service.config import TargetSettings
from target_service.drafts import Drafts
from target_service.plan import Plan
from target_service.remote import RemoteSession

# Off the drafts' path n-grams are a guess: the longer the match, the longer the proposal.
_TOKENS_PER_MATCH = 3


class Drafter:
    """The proposals of one sequence."""

    def __init__(self, plan: Plan, remote: RemoteSession | None, ngrams: bool, only_ngrams: bool) -> None:
        self._plan, self._remote, self._ngrams, self._only_ngrams = plan, remote, ngrams, only_ngrams
        self._index: NgramDrafter | None = None
        self._prepared: Proposal | None = None  # told to the draft as what this round verifies
        self._eos = frozenset(plan.sampling.eos_token_id)
        self.fallback = ""  # why the last proposal was not the drafter's own

    async def begin(self, tokens: Sequence[int], k: int) -> None:
        """Called once, as soon as the sequence has its row."""
        if self._remote:
            await self._remote.begin(tokens, k)

    async def propose(self, tokens: Sequence[int], k: int) -> Proposal:
        """At most k tokens to verify on the committed ones."""
        self.fallback = ""
        prepared, self._prepared = self._prepared, None
        if k <= 0:
            return NOTHING
        if self._remote:
            proposal = await self._remote.propose(tokens, k)
            if proposal.ids:
                return proposal
            self.fallback = self._remote.last_problem
        return prepared or await self._look_up(tokens, k)

    async def commit(self, tokens: Sequence[int], verdict: Verdict, k: int) -> None:
        """Tells whoever drafts what became of the last proposal; `tokens` hold the verdict's already."""
        remote = self._remote
        if not remote or not remote.is_open:
            return
        base_len, accepted = len(tokens) - len(verdict.ids), verdict.ids[:-1]
        if remote.is_waited_for:
            await remote.commit(base_len, accepted, verdict.next_id, k)
        else:
            # The round goes on without it: it is told with what. One token is wanted of it, as a sign of life.
            self._prepared = await self._look_up(tokens, k)
            await remote.commit(base_len, accepted, verdict.next_id, min(k, 1), self._prepared.ids)

    async def close(self) -> None:
        """Frees what the draft service holds."""
        if self._remote:
            await self._remote.close()

    async def _look_up(self, tokens: Sequence[int], k: int) -> Proposal:
        if not self._ngrams:
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

    def __init__(self, settings: TargetSettings, drafts: Drafts, vocabulary_size: int, metrics: TargetMetrics) -> None:
        self._settings, self._drafts, self._metrics = settings, drafts, metrics
        self._vocabulary_size = vocabulary_size

    @asynccontextmanager
    async def follow(self, plan: Plan) -> AsyncIterator[Drafter]:
        """A drafter for the life of a sequence."""
        only_ngrams = plan.config.HasField("prompt_lookup_num_tokens")
        remote = None
        if self._drafts.all and not only_ngrams and plan.config.num_assistant_tokens > 0:
            timeout = self._settings.draft_timeout
            remote = RemoteSession(self._drafts, plan, self._vocabulary_size, timeout, self._metrics)
        ngrams = only_ngrams or (remote is not None and self._settings.fallback == "ngram")
        drafter = Drafter(plan, remote, ngrams, only_ngrams)
        try:
            yield drafter
        finally:
            await drafter.close()

    @property
    def unused_reason(self) -> str:
        """Why no draft service can be used at all."""
        return self._drafts.unused_reason
