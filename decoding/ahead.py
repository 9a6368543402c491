"""Drafts ahead of a verification: the branches of one tree, each a way that the sequence may go on.

While x_1 .. x_k are verified on the committed tokens, an outcome is (j, t): the first j of them stand and
the target's own token t follows (Kumar et al., arXiv 2603.03251). The first pass over x_1 .. x_k says which t
the draft takes for likely; every later one draws a token for all branches at once. A branch's rows of q are
the law of its tokens given its outcome, as if it had been drafted after the verdict.

A tree takes as long as its width and depth say, not what is drawn: an end in a branch is cut off when
all are done. So whether it comes in time tells nothing of its tokens.

Knows nothing of which outcomes are likely in the long run: `choose` is told how sure the draft was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from decoding.cache import Tree
from decoding.drawing import Draw, Drawn, draft_key, draw, ends_proposal, proposal_of, with_noise
from decoding.processors import Processors, Scored, process
from decoding.proposal import Outcome
from decoding.sampling import Rule

RANKS = 16
"""Candidates for the token after each position."""


@dataclass(frozen=True, slots=True)
class View:
    """What the draft thinks of a verification before it is over."""

    confidences: tuple[float, ...] = ()
    """Its probability of each verified token."""
    candidates: tuple[tuple[int, ...], ...] = ()
    """After each number of accepted tokens, the likely next ones, best first."""
    likelihoods: tuple[tuple[float, ...], ...] = ()
    """Of each candidate, if the verification ends there; they add up to 1."""


Choose = Callable[[View, int], Sequence[tuple[int, int]]]
"""From that, and the number of outcomes wanted at most, to outcomes: how many tokens are accepted, and which of the
candidates after them comes next, from 0."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was drafted ahead."""

    outcomes: tuple[Outcome, ...] = ()
    view: View = View()


@dataclass(slots=True)
class Turnout:
    """The verdict, should it become known while the tree still grows: all branches but one then end."""

    path: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Branch:
    accepted: int
    next_id: int
    drawn: list[Drawn] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def path(self, verified: Sequence[int]) -> tuple[int, ...]:
        return (*verified[: self.accepted], self.next_id)


@dataclass(slots=True)
class AheadJob:
    """Wants proposals of k tokens for outcomes; stays in the engine until it has them.

    `tokens` are those committed, `verified` the proposal under verification, `ids` the uncached ones of both.
    """

    row: int
    start: int
    ids: Sequence[int]
    tokens: Sequence[int]
    verified: Sequence[int]
    k: int
    most: int  # outcomes
    choose: Choose
    processors: Processors
    epoch: int = 0
    confidence: float = 0.0
    width: int = 0
    turnout: Turnout = field(default_factory=Turnout)
    deadline: float = float("inf")
    """Of use, not of work: the tree that is wanted first grows first."""
    scored: int = 0
    tree: Tree | None = None
    view: View = View()
    branches: list[_Branch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scored = len(self.verified) + 1

    @property
    def result(self) -> Ahead:
        """All branches as far as they came, each up to its end."""
        drafted = [Outcome(b.path(self.verified), proposal_of(self._cut(b.drawn))) for b in self.branches if b.drawn]
        return Ahead(tuple(drafted), self.view)

    def _cut(self, drawn: Sequence[Drawn]) -> Sequence[Drawn]:
        for i, one in enumerate(drawn):
            if ends_proposal(one, self.processors, self.confidence):
                return drawn[: i + 1]
        return drawn

    def branch(self, view: View) -> bool:
        """Takes what the first pass said; False when there is nothing to draft."""
        self.view, candidates = view, view.candidates
        self.start = len(self.tokens) + len(self.verified)
        ends = self.processors.sampling.eos_token_id
        self.branches = [
            _Branch(accepted, candidates[accepted][rank])
            for accepted, rank in self.choose(view, self.most)
            if rank < len(candidates[accepted]) and candidates[accepted][rank] not in ends
        ]
        return self._feed([b.next_id for b in self.branches])

    def advance(self, drawn: Sequence[Drawn]) -> bool:
        """Takes a token for every branch; False when the tree is complete."""
        for branch, one in zip(self.branches, drawn, strict=True):
            branch.drawn.append(one)
        self.start += len(self.branches)
        if (path := self.turnout.path) is not None:
            self.branches = [b for b in self.branches if b.path(self.verified) == path]
        going = bool(self.branches) and len(self.branches[0].drawn) < self.k
        return going and self._feed([b.drawn[-1].token for b in self.branches])

    def _feed(self, ids: list[int]) -> bool:
        """The next token of every branch: it follows what is accepted in its outcome, and its branch."""
        trunk = len(self.tokens)
        self.ids, self.scored = ids, len(ids)
        self.tree = Tree(
            trunk,
            [trunk + b.accepted + len(b.drawn) for b in self.branches],
            [[*range(trunk, trunk + b.accepted), *b.places] for b in self.branches],
        )
        for i, branch in enumerate(self.branches):
            branch.places.append(self.start + i)
        return bool(ids)

    def draws(self) -> list[Draw]:
        """What is wanted of the logits of a pass over all branches."""
        made = []
        for branch in self.branches:
            path = branch.path(self.verified)
            base_len, index = len(self.tokens) + len(path), len(branch.drawn)
            context = [*self.tokens, *path, *(d.token for d in branch.drawn)]
            made.append(
                Draw(self.processors, context, draft_key(self.processors, self.epoch, base_len, index), self.width)
            )
        return made


def ahead_jobs(jobs: Sequence[AheadJob], logits: Tensor) -> list[bool]:
    """One pass of every tree; logits float32 [n, vocab]. True where it goes on."""
    parts = logits.split([j.scored for j in jobs])
    growing = [(j, part) for j, part in zip(jobs, parts, strict=True) if j.branches]
    goes_on = {id(j): j.branch(_foresee(j, part)) for j, part in zip(jobs, parts, strict=True) if not j.branches}
    if growing:
        draws = [j.draws() for j, _ in growing]
        drawn = iter(draw([d for some in draws for d in some], torch.cat([part for _, part in growing])))
        goes_on |= {id(j): j.advance(list(islice(drawn, len(j.branches)))) for j, _ in growing}
    return [goes_on[id(j)] for j in jobs]


def _foresee(job: AheadJob, logits: Tensor) -> View:
    verified = list(job.verified)
    item = Scored(job.processors, [*job.tokens, *verified], job.scored)
    scores = process([item], logits)
    confidences = scores[:-1].softmax(dim=-1)[range(len(verified)), verified].tolist()
    ranked = scores
    if job.processors.sampling.rule is Rule.COUPLED:
        # With the noise that the target will use: its token is foreseen, not guessed.
        ranked = with_noise(scores, [(item, len(job.tokens) + i) for i in range(job.scored)])
    ranked = ranked.clone()
    # A token that follows a rejection is not the one that was rejected.
    ranked[range(len(verified)), verified] = float("-inf")
    best = ranked.softmax(dim=-1).topk(min(RANKS, ranked.shape[1]), dim=-1)
    rows = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return View(
        tuple(confidences),
        tuple(tuple(i for i, v in zip(*row, strict=True) if v > 0) for row in rows),
        tuple(tuple(v for v in values if v > 0) for _, values in rows),
    )
