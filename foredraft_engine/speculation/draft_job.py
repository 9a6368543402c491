"""The job that drafts a proposal, one token in each step.

This module knows nothing of verification.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from foredraft_engine.feed import Feed
from foredraft_engine.job import UNFINISHED, Job, PassOutput, attempt
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Proposal
from foredraft_engine.speculation.draft_options import DraftOptions
from foredraft_engine.speculation.drawing import (
    Draw,
    Drawn,
    draft_key,
    draw,
    ends_proposal,
    proposal_of,
)


class DraftJob(Job):
    """Drafts up to k tokens; its result is a `Proposal`."""

    def __init__(
        self, feed: Feed, tokens: Sequence[int], processors: Processors, options: DraftOptions
    ) -> None:
        """
        Args:
            feed: the committed tokens that the row lacks, at least the last one.
            tokens: the committed tokens.
        """
        self.tokens, self.processors, self.options = tokens, processors, options
        self._feed = feed
        self._drawn: list[Drawn] = []

    @property
    def feeds(self) -> Sequence[Feed]:
        return (self._feed,)

    @property
    def scored(self) -> int:
        return 1

    @classmethod
    def finish(cls, jobs: Sequence["DraftJob"], output: PassOutput) -> list[Any]:
        drawn = draw([job._next_draw() for job in jobs], output.logits)
        return [attempt(partial(job._take, one)) for job, one in zip(jobs, drawn, strict=True)]

    @property
    def text(self) -> list[int]:
        """The committed tokens and those drawn so far."""
        return [*self.tokens, *(one.token for one in self._drawn)]

    def _next_draw(self) -> Draw:
        """Returns the draw of the next token."""
        options = self.options
        key = draft_key(self.processors, options.epoch, len(self.tokens), len(self._drawn))
        return Draw(self.processors, self.text, key, options.q_width, options.alternatives > 0)

    def _take(self, drawn: Drawn | None) -> Any:
        """Adds a drawn token; returns the proposal if it is complete, else `UNFINISHED`.

        A proposal ends before a position whose scores allow no token.
        """
        options = self.options
        if drawn is None:
            return self._proposal()
        self._drawn.append(drawn)
        self._feed = Feed(self._feed.row, self._feed.start + len(self._feed.ids), [drawn.token])
        if (
            len(self._drawn) < options.k
            and time.monotonic() < options.deadline
            and not ends_proposal(drawn, self.processors, options.confidence)
        ):
            return UNFINISHED
        return self._proposal()

    def _proposal(self) -> Proposal:
        options = self.options
        return proposal_of(self._drawn, options.choose, options.alternatives)
