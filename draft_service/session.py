"""One sequence on the draft: it follows what the target commits, and drafts from there.

This module knows nothing of streams or messages.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from draft_service.outcome_ranking import OutcomeRanking
from foredraft.wire.limits import MAX_NGRAM_TOKENS
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import Grammar
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.sampling import Sampling
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.row_pool import Row
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.speculation.draft_options import DraftOptions, EarlyVerdict, TreeOptions
from foredraft_engine.speculation.ngram import NgramDrafter
from foredraft_engine.speculation.preview import Preview
from foredraft_engine.speculation.tree_job import DraftedAhead

_IN_TIME = 0.75  # share of the time that steps may take; the rest goes to what happens between them
_HARDLY = 1.15
_FEWEST = 8  # the smallest number of outcomes, however little time there is


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How one sequence is drafted for."""

    max_length: int
    """The longest that the sequence can become, prompt included."""
    epoch: int = 0
    scope: str = ""
    """Rows are reused among the sequences of one scope only."""
    confidence: float = 0.0
    """The probability below which a proposal ends with its token."""
    max_ngram: int = 2
    ngram_min_match: int | None = None
    """The shortest match from which n-grams draft; None drafts without them."""
    q_width: int = 0
    """The largest number of entries in a row of q; 0 for the whole vocabulary."""


class DraftSession:
    """The tokens of one sequence, with its row and its n-grams."""

    def __init__(
        self,
        engine: Engine | None,
        sampling: Sampling,
        tokens: Sequence[int],
        options: SessionOptions,
        ranking: OutcomeRanking,
        grammar: Grammar | None = None,
    ) -> None:
        """Follows a sequence.

        Args:
            engine: the engine of the draft model; None drafts by n-grams alone.
            tokens: the committed tokens.
            ranking: chooses the outcomes that are drafted for, and learns which came true.
            grammar: what drawn tokens are held to, if they are.
        """
        self.tokens = list(tokens)
        self._engine, self._sampling, self._options, self._ranking = (
            engine,
            sampling,
            options,
            ranking,
        )
        self._ngram: NgramDrafter | None = None
        self._processors = Processors(sampling, engine.device, grammar) if engine else None
        self._lease: AbstractAsyncContextManager[Row] | None = None
        self._row: Row | None = None

    async def __aenter__(self) -> "DraftSession":
        options = self._options
        if options.ngram_min_match is not None and options.max_length <= MAX_NGRAM_TOKENS:
            # Off the event loop: the index of a long prompt takes a while.
            self._ngram = await asyncio.to_thread(
                NgramDrafter, self.tokens, max_ngram=options.max_ngram
            )
        if self._engine and len(self.tokens) < self._engine.capacity:
            self._lease = self._engine.pool.lend(self.tokens, options.scope)
            self._row = await self._lease.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lease:
            await self._lease.__aexit__(kind, error, trace)

    def check_commit(self, base_len: int, accepted: int) -> None:
        """Checks where a commit stands, before its tokens are looked at.

        Args:
            accepted: the number of accepted tokens.

        Raises:
            InvalidFieldError: `base_len` is not the length committed so far, or the sequence would
                become longer than it said.
        """
        if base_len != len(self.tokens):
            raise InvalidFieldError(
                "base_len", f"is {base_len}, but {len(self.tokens)} tokens are committed"
            )
        if base_len + accepted + 1 > self._options.max_length:
            reason = f"has {accepted} tokens, which exceeds max_length {self._options.max_length}"
            raise InvalidFieldError("accepted_ids", reason)

    def commit(self, base_len: int, accepted: Sequence[int], next_id: int) -> None:
        """Takes over what the target committed, which `check_commit` has checked."""
        added = [*accepted, next_id]
        self.tokens += added
        if self._ngram:
            self._ngram.extend(added)
        self._settle(base_len)

    async def propose(self, k: int, budget_s: float, alternatives: int = 0) -> Proposal:
        """Returns up to k tokens after the committed ones, and alternatives to them.

        The choice between model and n-grams depends on committed tokens alone and never on drawn
        ones, because that would bias the output.

        Args:
            budget_s: the time in seconds after which no further token is drawn; 0 is no limit.
        """
        began = time.monotonic()
        if self._ngram and self._ngram.match_length >= (self._options.ngram_min_match or 1):
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
        deadline = began + budget_s if budget_s > 0 else float("inf")
        options = self._draft_options(k, alternatives, deadline)
        return await engine.draft(row, self.tokens, self._processors, options)

    @property
    def can_branch(self) -> bool:
        """Whether the session can draft ahead for outcomes, which takes a model."""
        return self._engine is not None and self._row is not None and self._engine.rows.spare > 0

    async def ahead(
        self,
        verified: Proposal,
        k: int,
        most: int,
        wanted_s: float,
        early_verdict: EarlyVerdict,
        alternatives: int = 0,
    ) -> DraftedAhead:
        """Returns proposals of up to k tokens for the likely outcomes of a verification.

        Args:
            verified: the proposal that is verified on the committed tokens.
            most: the largest number of outcomes; there are fewer if a tree of this width takes
                longer than `wanted_s`.
            wanted_s: the time in seconds until the blocks are wanted; 0 if it is not known.
            early_verdict: where the caller writes the verdict, should it come while the tree grows.
            alternatives: the largest number of alternatives in each proposal.
        """
        engine, row, processors = self._engine, self._row, self._processors
        if not engine or not row or not processors:
            return DraftedAhead()
        base_len = len(self.tokens)
        # An alternative and the token after it may follow the whole verified proposal.
        k = min(k, engine.capacity - base_len - len(verified.ids) - 1)
        if k <= 0:
            return DraftedAhead()
        async for _ in engine.prefill(row, self.tokens):
            pass
        options = TreeOptions(
            self._draft_options(k, alternatives, time.monotonic() + (wanted_s or float("inf"))),
            _affordable(engine.step_times, most, k, wanted_s),
            early_verdict,
        )
        ahead = await engine.draft_ahead(row, self.tokens[:base_len], verified, processors, options)
        self._settle(base_len)
        return ahead

    def _draft_options(self, k: int, alternatives: int, deadline: float) -> DraftOptions:
        return DraftOptions(
            k,
            epoch=self._options.epoch,
            confidence=self._options.confidence,
            q_width=self._options.q_width,
            alternatives=alternatives,
            choose=self._ranking.choose,
            deadline=deadline,
        )

    def observe(self, preview: Preview, path: Sequence[int]) -> None:
        """Learns from the result of a verification that was drafted ahead for."""
        self._ranking.observe(preview, path)

    def _settle(self, known: int) -> None:
        """Truncates the row to the tokens that still stand; the first `known` tokens do."""
        if self._row:
            self._row.truncate(_agreement(self._row.cached, self.tokens, known))


def _affordable(step_times: StepTimes, most: int, k: int, wanted_s: float) -> int:
    """Returns the number of branches that come in time, by the measured step times.

    A tree takes k + 1 steps. If a narrower tree would hardly be faster, no branch is left out.
    """
    fewest_s = step_times.at(_FEWEST * step_times.jobs)
    if wanted_s <= 0 or fewest_s is None:
        return most
    step_s = max(_IN_TIME * wanted_s / (k + 1), _HARDLY * fewest_s)
    while most > _FEWEST and (step_times.at(most * step_times.jobs) or 0.0) > step_s:
        most -= 1
    return most


def _agreement(cached: Sequence[int], tokens: Sequence[int], known: int) -> int:
    """Returns the number of cached tokens that still stand; the last committed token is always fed
    again.
    """
    length = min(known, len(cached))
    while length < min(len(cached), len(tokens) - 1) and cached[length] == tokens[length]:
        length += 1
    return min(length, len(tokens) - 1)
