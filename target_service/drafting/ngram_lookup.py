"""The n-gram proposals that the target makes itself.

This module knows nothing of draft services.
"""

import asyncio
from collections.abc import Sequence

from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.speculation.ngram import NgramDrafter
from target_service.request.plan import Plan

# As a fallback, n-grams are seldom right; the longer the match, the longer the proposal may be.
_TOKENS_PER_MATCH = 3


class NgramLookup:
    """The n-gram index of one sequence, built when it is first used."""

    def __init__(self, plan: Plan, is_fallback: bool) -> None:
        """Creates the lookup of one sequence.

        Args:
            plan: the plan of the sequence.
            is_fallback: whether it stands in for a draft service; a proposal then has at most three
                tokens for each token of the match.
        """
        self._max_ngram = plan.config.max_matching_ngram_size
        self._eos = frozenset(plan.sampling.eos_token_id)
        self._is_fallback = is_fallback
        self._index: NgramDrafter | None = None

    async def propose(self, tokens: Sequence[int], k: int) -> Proposal:
        """Returns at most k tokens that followed the same n-gram earlier in the text."""
        if k <= 0:
            return NOTHING
        if self._index is None:
            # Indexing a long prompt takes a while, so it is done outside the event loop.
            self._index = await asyncio.to_thread(
                NgramDrafter, list(tokens), max_ngram=self._max_ngram
            )
        self._index.extend(tokens[len(self._index.tokens) :])
        if self._is_fallback:
            k = min(k, _TOKENS_PER_MATCH * self._index.match_length)
        return self._index.propose(k, self._eos)
