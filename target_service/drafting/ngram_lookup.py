"""The n-gram proposals that the target makes itself.

This module knows nothing of draft services.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.speculation.ngram import NgramDrafter
from target_service.drafting.lookup_goodput import LookupGoodput
from target_service.request.plan import Plan

# After so many lookups in a row that did not pay, tokens are looked up in every fourth round only:
# at high load the lookups themselves would take a few percent of a step.
_PATIENCE, _REST = 8, 4


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was looked up for one round."""

    proposal: Proposal = NOTHING
    length: float = 1.0
    """The mean acceptance length of a round with it, where goodput chose its tokens."""


@dataclass(frozen=True, slots=True)
class _Prediction:
    """All tokens that were found for one round."""

    base_len: int
    match_length: int
    ids: Sequence[int]


class NgramLookup:
    """The n-gram index of one sequence."""

    def __init__(self, plan: Plan, goodput: LookupGoodput | None) -> None:
        """Creates the lookup of one sequence.

        Args:
            plan: the plan of the sequence.
            goodput: chooses how many tokens are proposed; None proposes as many as are asked for.
        """
        self._max_ngram = plan.config.max_matching_ngram_size
        self._eos = frozenset(plan.sampling.eos_token_id)
        self._goodput = goodput
        self._building: asyncio.Task[NgramDrafter] | None = None
        self._index: NgramDrafter | None = None
        self._predicted: _Prediction | None = None
        self._vain = 0  # lookups in a row that did not pay
        self._rests_until = 0  # the number of committed tokens at which it looks up again

    def begin(self, tokens: Sequence[int]) -> None:
        """Begins to index the prompt, which takes a while if it is long, outside the event loop."""
        building = asyncio.to_thread(NgramDrafter, list(tokens), max_ngram=self._max_ngram)
        self._building = asyncio.create_task(building)

    async def propose(self, tokens: Sequence[int], k: int) -> Lookup:
        """Returns at most k tokens that followed the same n-gram earlier in the text."""
        if k <= 0 or len(tokens) < self._rests_until:
            return Lookup()
        if self._index is None:
            if self._building is None:
                self.begin(tokens)
            assert self._building is not None
            self._index = await self._building
        index = self._index
        index.extend(tokens[len(index.tokens) :])
        if self._goodput is None:
            return Lookup(index.propose(k, self._eos))
        lookup = self._choose(tokens, index, k, self._goodput)
        self._vain = 0 if lookup.proposal.ids else self._vain + 1
        if self._vain >= _PATIENCE:
            self._rests_until = len(tokens) + _REST
        return lookup

    async def close(self) -> None:
        """Ends what runs."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])

    def _choose(
        self, tokens: Sequence[int], index: NgramDrafter, k: int, goodput: LookupGoodput
    ) -> Lookup:
        """Returns as many of the tokens that followed as pay."""
        self._learn(tokens, goodput)
        self._predicted, match = None, index.match_length
        found = index.propose(goodput.most(match, k), self._eos) if match else NOTHING
        if not found.ids:
            return Lookup()
        self._predicted = _Prediction(len(tokens), match, found.ids)
        chosen, length = goodput.choose(match, len(found.ids))
        return Lookup(found.first(chosen) if chosen else NOTHING, length)

    def _learn(self, tokens: Sequence[int], goodput: LookupGoodput) -> None:
        """Compares what was found last with what came."""
        if (last := self._predicted) is not None:
            goodput.observe(last.match_length, last.ids, tokens[last.base_len :])
