"""The job that drafts ahead of a verification, with a branch of one tree for each outcome.

While x_1 .. x_k are verified on the committed tokens, an outcome is (j, t): the first j of them are
accepted and the target's own token t follows (Kumar et al., arXiv 2603.03251). The first pass goes
over x_1 .. x_k and says which t are likely, by the draft. Every later pass draws one token for all
branches. The rows of q of a branch are the law of its tokens given its outcome, the same as if the
branch had been drafted after the verdict. Where rows run ahead, all later passes are one step,
without the host in between.

The time that a tree takes depends on its width and depth, not on the tokens drawn: a branch that
ends early is cut only when all branches are complete. So whether a proposal comes in time says
nothing about its tokens, and does not bias what is accepted.

This module knows nothing of which outcomes are likely in the long run: a `Chooser` decides, from
how sure the draft was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.feed import Feed, Tree
from foredraft_engine.forward_pass import Unread
from foredraft_engine.job import UNFINISHED, Job, PassOutput, attempt
from foredraft_engine.logits.processing import Processing
from foredraft_engine.proposal import Outcome
from foredraft_engine.speculation.chain import Chain, draw_chains
from foredraft_engine.speculation.draft_options import TreeOptions
from foredraft_engine.speculation.drawing import (
    Draw,
    Drawn,
    draft_key,
    ends_proposal,
    proposal_of,
)
from foredraft_engine.speculation.preview import Preview, candidates_of, likely
from foredraft_engine.speculation.ranking import Ranking
from foredraft_engine.speculation.round import Round
from foredraft_engine.transfer import to_device, to_host


@dataclass(frozen=True, slots=True)
class DraftedAhead:
    """The proposals of a tree, and the preview that its outcomes were chosen from."""

    outcomes: tuple[Outcome, ...] = ()
    preview: Preview = field(default_factory=Preview)


@dataclass(slots=True)
class _Branch:
    path: tuple[int, ...]  # the tokens after the committed ones, up to the target's own
    places: list[int]  # of the branch's text in the row, from the end of the committed tokens on
    drawn: list[Drawn] = field(default_factory=list)


class TreeJob(Job):
    """Drafts proposals for several outcomes of a round; its result is `DraftedAhead`."""

    def __init__(self, feed: Feed, verified: Round, options: TreeOptions) -> None:
        """
        Args:
            feed: what verifies the round, see `round_feed`.
            verified: the round whose outcomes are drafted for.
        """
        self.round, self.options = verified, options
        self._feed, self._scored = feed, verified.scored
        self._preview = Preview()
        self._branches: list[_Branch] = []

    @property
    def feeds(self) -> Sequence[Feed]:
        return (self._feed,)

    @property
    def scored(self) -> int:
        return self._scored

    @property
    def wanted_by(self) -> float | None:
        return self.options.draft.deadline

    @classmethod
    def finish(cls, jobs: Sequence["TreeJob"], output: PassOutput) -> list[Any]:
        parts = output.logits.split([job.scored for job in jobs])
        growing = [(job, part) for job, part in zip(jobs, parts, strict=True) if job._branches]
        drawn: list[list[list[Drawn | None]]] = []
        if growing:  # first, because nothing may be raised once a job has moved on
            chains = [job._chain(output.prepare is not None) for job, _ in growing]
            logits = torch.cat([part for _, part in growing])
            drawn = draw_chains(chains, logits, output.prepare)
        results = {
            id(job): attempt(partial(job._take, its))
            for (job, _), its in zip(growing, drawn, strict=True)
        }
        for job, part in zip(jobs, parts, strict=True):
            if id(job) not in results:
                results[id(job)] = attempt(partial(job._branch, part))
        return [results[id(job)] for job in jobs]

    def _branch(self, logits: Tensor) -> Any:
        """Begins a branch for each chosen outcome, once the first pass has given the preview."""
        preview = _preview(self.round, logits)
        if preview is None:
            return self._result()
        self._preview, candidates = preview, preview.candidates
        ends = self.round.processors.sampling.eos_token_id
        self._branches = [
            self._begin(node, candidates[node][rank])
            for node, rank in self.options.draft.choose(preview, self.options.max_outcomes)
            if rank < len(candidates[node]) and candidates[node][rank] not in ends
        ]
        return self._grow([branch.path[-1] for branch in self._branches])

    def _begin(self, node: int, next_id: int) -> _Branch:
        """Returns the branch after a node of the preview and the token that follows there."""
        trunk, proposal = len(self.round.tokens), self.round.proposal
        k, at = len(proposal.ids), self._preview.depth(node)
        stem, places = proposal.ids[:at], [*range(trunk, trunk + at)]
        if node > k:
            stem = (*stem, proposal.alternatives[node - k - 1][1])
            places = [*places, trunk + node - 1]
        return _Branch((*stem, next_id), places)

    def _chain(self, runs_ahead: bool) -> Chain:
        """Returns the draws of the next token of every branch, or of all that are left."""
        is_whole = runs_ahead and not self.round.processors.reads_text
        depth = self.options.draft.k - len(self._branches[0].drawn) if is_whole else 1
        draws = [[self._draw(branch, ahead) for branch in self._branches] for ahead in range(depth)]
        return Chain(draws, self._feeds(depth - 1))

    def _draw(self, branch: _Branch, ahead: int) -> Draw:
        """Returns the draw of a token of a branch, so many tokens after the next."""
        processors, options = self.round.processors, self.options.draft
        text: Sequence[int]
        text = [*self.round.tokens, *branch.path, *(one.token for one in branch.drawn)]
        base_len, index = len(self.round.tokens) + len(branch.path), len(branch.drawn) + ahead
        text = Unread(len(text) + ahead) if ahead else text
        key = draft_key(processors, options.epoch, base_len, index)
        return Draw(processors, text, key, options.q_width, options.alternatives > 0)

    def _take(self, drawn: Sequence[Sequence[Drawn | None]]) -> Any:
        """Adds the tokens of one or more depths to every branch; returns the result if the tree is
        complete.

        A branch whose scores allow no token is given up.
        """
        depth = len(self._branches[0].drawn) + len(drawn)
        for branch, its in zip(self._branches, zip(*drawn, strict=True), strict=True):
            branch.drawn += [one for one in its if one]
        self._branches = [branch for branch in self._branches if len(branch.drawn) == depth]
        if (path := self.options.early_verdict.path) is not None:
            self._branches = [branch for branch in self._branches if branch.path == path]
        if not self._branches or len(self._branches[0].drawn) == self.options.draft.k:
            return self._result()
        return self._grow([branch.drawn[-1].token for branch in self._branches])

    def _grow(self, ids: list[int]) -> Any:
        """Feeds the next token of every branch, after what its outcome accepts and what it drew."""
        if not ids:
            return self._result()
        (feed,) = self._feeds(1)
        self._feed, self._scored = replace(feed, ids=ids), len(ids)
        for i, branch in enumerate(self._branches):
            branch.places.append(feed.start + i)
        return UNFINISHED

    def _feeds(self, count: int) -> list[Feed]:
        """Returns the feeds of the next passes, each of one token of every branch."""
        trunk, end = len(self.round.tokens), self._feed.start + len(self._feed.ids)
        width, feeds = len(self._branches), []
        for start in range(end, end + count * width, width):
            seen = [
                [*branch.places, *range(end + i, start, width)]
                for i, branch in enumerate(self._branches)
            ]
            tree = Tree(trunk, [trunk + len(places) for places in seen], seen)
            feeds.append(Feed(self._feed.row, start, Unread(width), tree))
        return feeds

    def _result(self) -> DraftedAhead:
        options = self.options.draft
        outcomes = [
            Outcome(
                branch.path,
                proposal_of(self._cut(branch.drawn), options.choose, options.alternatives),
            )
            for branch in self._branches
            if branch.drawn
        ]
        return DraftedAhead(tuple(outcomes), self._preview)

    def _cut(self, drawn: Sequence[Drawn]) -> Sequence[Drawn]:
        """Returns the tokens up to the first that ends a proposal."""
        for i, one in enumerate(drawn):
            if ends_proposal(one, self.round.processors, self.options.draft.confidence):
                return drawn[: i + 1]
        return drawn


def _preview(verified: Round, logits: Tensor) -> Preview | None:
    """Returns what the draft expects of a round; None if some scores allow no token.

    Args:
        logits: float32 [scored, vocab].
    """
    proposed, scored = verified.proposal.ids, verified.scored_texts
    processing, ranking = Processing(scored, logits.shape[1]), Ranking(scored)
    chosen = np.array(proposed, dtype=np.int64)
    arrays = [chosen, *processing.arrays, *ranking.arrays]
    chain, *tensors = to_device(arrays, logits.device)
    scores = processing.apply(logits, tensors[: len(processing.arrays)])
    ranked = ranking.apply(scores, tensors[len(processing.arrays) :])
    p = scores[: len(proposed)].softmax(dim=-1).gather(1, chain[:, None])
    # The token after a rejection is not the one that was rejected.
    best, confidences, *others = to_host([ranked.amax(dim=-1), p[:, 0], *likely(ranked, chain)])
    if not np.isfinite(best).all():
        return None
    candidates, likelihoods = zip(*candidates_of(*others), strict=True)
    return Preview(
        tuple(confidences.tolist()),
        candidates,
        likelihoods,
        proposed,
        verified.proposal.alternatives,
    )
