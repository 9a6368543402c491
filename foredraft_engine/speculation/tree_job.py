"""DraftPool ahead of a verification: the branches of one tree, each a way that the sequence may go
on.

While x_1 .. x_k are verified on the committed tokens, an outcome is (j, t): the first j of them
stand and the target's own token t follows (Kumar et al., arXiv 2603.03251). The first pass over x_1
.. x_k says which t the draft takes for likely; every later one draws a token for all branches at
once. A branch's rows of q are the law of its tokens given its outcome, as if it had been drafted
after the verdict.

A tree takes as long as its width and depth say, not what is drawn: an end in a branch is cut off
when all are done. So whether it comes in time tells nothing of its tokens.

Knows nothing of which outcomes are likely in the long run: `choose` is told how sure the draft was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from foredraft_engine.cache.row_cache import Tree
from foredraft_engine.logits.processors import Processors, process
from foredraft_engine.proposal import Outcome, Proposal
from foredraft_engine.speculation.drawing import (
    Draw,
    Drawn,
    by_rank,
    draft_key,
    draw,
    ends_proposal,
    proposal_of,
    rows_of,
)
from foredraft_engine.speculation.preview import Choose, Preview, likely
from foredraft_engine.speculation.verify_job import scored_of


@dataclass(frozen=True, slots=True)
class DraftedAhead:
    """What was drafted ahead."""

    outcomes: tuple[Outcome, ...] = ()
    preview: Preview = field(default_factory=Preview)


@dataclass(slots=True)
class EarlyVerdict:
    """The verdict, should it become known while the tree still grows:

    all branches but one then end.
    """

    path: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Branch:
    path: tuple[int, ...]
    places: list[int]  # that its text leads through
    drawn: list[Drawn] = field(default_factory=list)


@dataclass(slots=True)
class TreeJob:
    """Wants proposals of k tokens for outcomes; stays in the engine until it has them.

    `tokens` are those committed, `ids` the uncached ones of them and the proposal that is verified.
    """

    row: int
    start: int
    ids: Sequence[int]
    tokens: Sequence[int]
    verified: Proposal
    k: int
    most: int  # outcomes
    choose: Choose
    processors: Processors
    epoch: int = 0
    confidence: float = 0.0
    width: int = 0
    alternatives: int = 0  # to the tokens of each branch
    early_verdict: EarlyVerdict = field(default_factory=EarlyVerdict)
    deadline: float = float("inf")
    """Of use, not of work: the tree that is wanted first grows first."""
    scored: int = 0
    tree: Tree | None = None
    preview: Preview = field(default_factory=Preview)
    branches: list[_Branch] = field(default_factory=list)

    def __post_init__(self) -> None:
        beside, chain = self.verified.alternatives, len(self.ids) - len(self.verified.ids)
        self.scored = len(self.verified.ids) + 1 + len(beside)
        self.tree = Tree.beside(self.start, len(self.ids), [chain + at for at, _ in beside])
        self.ids = [*self.ids, *(token for _, token in beside)]

    @property
    def result(self) -> DraftedAhead:
        """All branches as far as they came, each up to its end."""
        drafted = [
            Outcome(b.path, proposal_of(self._cut(b.drawn), self.choose, self.alternatives))
            for b in self.branches
            if b.drawn
        ]
        return DraftedAhead(tuple(drafted), self.preview)

    def _cut(self, drawn: Sequence[Drawn]) -> Sequence[Drawn]:
        for i, one in enumerate(drawn):
            if ends_proposal(one, self.processors, self.confidence):
                return drawn[: i + 1]
        return drawn

    def branch(self, preview: Preview) -> bool:
        """Takes what the first pass said; False when there is nothing to draft."""
        self.preview, candidates = preview, preview.candidates
        self.start += len(self.ids)
        ends = self.processors.sampling.eos_token_id
        self.branches = [
            self._branch(node, candidates[node][rank])
            for node, rank in self.choose(preview, self.most)
            if rank < len(candidates[node]) and candidates[node][rank] not in ends
        ]
        return self._feed([b.path[-1] for b in self.branches])

    def _branch(self, node: int, next_id: int) -> _Branch:
        """From a node of the preview on."""
        trunk, k, at = len(self.tokens), len(self.verified.ids), self.preview.depth(node)
        stem, places = self.verified.ids[:at], [*range(trunk, trunk + at)]
        if node > k:
            stem, places = (
                (*stem, self.verified.alternatives[node - k - 1][1]),
                [*places, trunk + node - 1],
            )
        return _Branch((*stem, next_id), places)

    def advance(self, drawn: Sequence[Drawn]) -> bool:
        """Takes a token for every branch; False when the tree is complete."""
        for branch, one in zip(self.branches, drawn, strict=True):
            branch.drawn.append(one)
        self.start += len(self.branches)
        if (path := self.early_verdict.path) is not None:
            self.branches = [b for b in self.branches if b.path == path]
        going = bool(self.branches) and len(self.branches[0].drawn) < self.k
        return going and self._feed([b.drawn[-1].token for b in self.branches])

    def _feed(self, ids: list[int]) -> bool:
        """The next token of every branch:

        it follows what is accepted in its outcome, and its branch.
        """
        trunk = len(self.tokens)
        self.ids, self.scored = ids, len(ids)
        self.tree = Tree(
            trunk,
            [trunk + len(b.places) for b in self.branches],
            [list(b.places) for b in self.branches],
        )
        for i, branch in enumerate(self.branches):
            branch.places.append(self.start + i)
        return bool(ids)

    def draws(self) -> list[Draw]:
        """What is wanted of the logits of a pass over all branches."""
        made = []
        for branch in self.branches:
            base_len, index = len(self.tokens) + len(branch.path), len(branch.drawn)
            context = [*self.tokens, *branch.path, *(d.token for d in branch.drawn)]
            key = draft_key(self.processors, self.epoch, base_len, index)
            made.append(Draw(self.processors, context, key, self.width, self.alternatives > 0))
        return made


def grow_trees(jobs: Sequence[TreeJob], logits: Tensor) -> list[bool]:
    """One pass of every tree; logits float32 [n, vocab]. True where it goes on."""
    parts = logits.split([j.scored for j in jobs])
    growing = [(j, part) for j, part in zip(jobs, parts, strict=True) if j.branches]
    goes_on = {
        id(j): j.branch(_foresee(j, part))
        for j, part in zip(jobs, parts, strict=True)
        if not j.branches
    }
    if growing:
        draws = [j.draws() for j, _ in growing]
        drawn = iter(
            draw([d for some in draws for d in some], torch.cat([part for _, part in growing]))
        )
        goes_on |= {id(j): j.advance(list(islice(drawn, len(j.branches)))) for j, _ in growing}
    return [goes_on[id(j)] for j in jobs]


def _foresee(job: TreeJob, logits: Tensor) -> Preview:
    verified, beside = job.verified.ids, job.verified.alternatives
    scored = scored_of(job.processors, job.tokens, job.verified)
    scores = process(scored, logits)
    chain = torch.tensor(verified, dtype=torch.long, device=scores.device)
    confidences = (
        scores[: len(verified)].softmax(dim=-1)[range(len(verified)), list(verified)].tolist()
    )
    # A token that follows a rejection is not the one that was rejected.
    candidates, likelihoods = zip(*likely(by_rank(scores, rows_of(scored)), chain), strict=True)
    return Preview(tuple(confidences), candidates, likelihoods, verified, beside)
