"""The job that drafts a proposal.

Where rows run ahead, all tokens are drafted in one step, without the host in between. The tokens
after the one that ends the proposal are then cut: they change nothing that was drawn before them.
Otherwise a step drafts one token, and so it does for a sequence whose processors read the text.

This module knows nothing of verification.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import Unread
from foredraft_engine.job import UNFINISHED, Job, PassOutput, attempt
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Proposal
from foredraft_engine.speculation.chain import Chain, draw_chains
from foredraft_engine.speculation.draft_options import DraftOptions
from foredraft_engine.speculation.drawing import (
    Draw,
    Drawn,
    draft_key,
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
        chains = [job._chain(output.prepare is not None) for job in jobs]
        drawn = draw_chains(chains, output.logits, output.prepare)
        return [
            attempt(partial(job._take, [one for (one,) in its]))
            for job, its in zip(jobs, drawn, strict=True)
        ]

    @property
    def text(self) -> list[int]:
        """The committed tokens and those drawn so far."""
        return [*self.tokens, *(one.token for one in self._drawn)]

    def _chain(self, runs_ahead: bool) -> Chain:
        """Returns the draws of the next token, or of all that are left."""
        text, end = self.text, self._feed.start + len(self._feed.ids)
        is_whole = runs_ahead and not self.processors.reads_text
        ahead = range(1, self.options.k - len(self._drawn) if is_whole else 1)
        texts = [text, *(Unread(len(text) + i) for i in ahead)]
        draws = [[self._draw(text)] for text in texts]
        return Chain(draws, [Feed(self._feed.row, end + i - 1, Unread(1)) for i in ahead])

    def _draw(self, text: Sequence[int]) -> Draw:
        """Returns the draw of the token after a text."""
        options, base_len = self.options, len(self.tokens)
        key = draft_key(self.processors, options.epoch, base_len, len(text) - base_len)
        return Draw(self.processors, text, key, options.q_width, options.alternatives > 0)

    def _take(self, chain: Sequence[Drawn | None]) -> Any:
        """Adds drawn tokens; returns the proposal if it is complete, else `UNFINISHED`.

        A proposal ends before a position whose scores allow no token.
        """
        options = self.options
        for drawn in chain:
            if drawn is None:
                return self._proposal()
            self._drawn.append(drawn)
            if ends_proposal(drawn, self.processors, options.confidence):
                return self._proposal()
        if len(self._drawn) >= options.k or time.monotonic() >= options.deadline:
            return self._proposal()
        end = self._feed.start + len(self._feed.ids)
        self._feed = Feed(self._feed.row, end, [self._drawn[-1].token])
        return UNFINISHED

    def _proposal(self) -> Proposal:
        options = self.options
        return proposal_of(self._drawn, options.choose, options.alternatives)
