"""One sequence on the draft: follows what the target commits, and drafts from there.

Knows nothing of streams or messages.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from decoding.engine import Engine
from decoding.errors import InvalidFieldError
from decoding.ngram import NgramDrafter
from decoding.pool import Row
from decoding.processors import Processors
from decoding.proposal import NOTHING, Proposal
from decoding.sampling import Sampling


class DraftSession:
    """The tokens of one sequence, and the row and the n-grams that go with them."""

    def __init__(
        self,
        engine: Engine | None,
        sampling: Sampling,
        tokens: Sequence[int],
        *,
        epoch: int,
        owner: str,
        confidence: float,
        max_ngram: int,
        ngram_min_match: int | None,
        q_width: int,
    ) -> None:
        """engine: the draft model's, or None for n-grams alone. ngram_min_match: None is no n-grams."""
        self.tokens = list(tokens)
        self._engine, self._sampling, self._epoch = engine, sampling, epoch
        self._owner, self._confidence, self._q_width = owner, confidence, q_width
        self._min_match = ngram_min_match
        self._ngram = NgramDrafter(tokens, max_ngram=max_ngram) if ngram_min_match is not None else None
        self._processors = Processors(sampling, engine.device) if engine else None
        self._lease: AbstractAsyncContextManager[Row] | None = None
        self._row: Row | None = None

    async def __aenter__(self) -> "DraftSession":
        if self._engine and len(self.tokens) < self._engine.capacity:
            self._lease = self._engine.pool.lend(self.tokens, self._owner)
            self._row = await self._lease.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease:
            await self._lease.__aexit__(kind, error, trace)

    def commit(self, base_len: int, accepted: Sequence[int], next_id: int) -> None:
        """Takes over what the target committed.

        Raises:
            InvalidFieldError: base_len is not the length committed so far.
        """
        if base_len != len(self.tokens):
            raise InvalidFieldError("base_len", f"is {base_len}, but {len(self.tokens)} tokens are committed")
        added = [*accepted, next_id]
        self.tokens += added
        if self._ngram:
            self._ngram.extend(added)
        if self._row:
            self._row.truncate(_agreement(self._row.cached, self.tokens, base_len))

    async def propose(self, k: int, budget_s: float) -> Proposal:
        """Up to k tokens after the committed ones, within `budget_s` seconds (0: no limit).

        Which drafter is used depends on committed tokens alone, never on drawn ones.
        """
        began = time.monotonic()
        if self._ngram and self._ngram.match_length >= (self._min_match or 1):
            found = self._ngram.propose(k, frozenset(self._sampling.eos_token_id))
            if found.ids:
                return found
        engine, row = self._engine, self._row
        if not engine or not row or not self._processors:
            return NOTHING
        k = min(k, engine.capacity - len(self.tokens))
        if k <= 0:
            return NOTHING
        async for _ in engine.prefill(row, self.tokens):
            pass
        return await engine.draft(
            row,
            self.tokens,
            k,
            self._processors,
            epoch=self._epoch,
            confidence=self._confidence,
            width=self._q_width,
            deadline=began + budget_s if budget_s > 0 else float("inf"),
        )


def _agreement(cached: Sequence[int], tokens: Sequence[int], known: int) -> int:
    """How many cached tokens still stand; the last committed token is always to be fed again."""
    length = min(known, len(cached))
    while length < min(len(cached), len(tokens) - 1) and cached[length] == tokens[length]:
        length += 1
    return min(length, len(tokens) - 1)
