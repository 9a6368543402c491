"""What an engine does with the logits of one sequence, for all sequences of a step at once.

A job is one sequence's share of a step: tokens to feed, logits wanted, and what is made of them.
Jobs of one kind are worked on as one batch of tensors; one transfer brings the results to the host.

Knows nothing of threads, rows' owners or where proposals come from.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from foredraft_engine.cache.quantizers import CacheSpec
from foredraft_engine.cache.row_cache import Tree
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Proposal
from foredraft_engine.speculation.drawing import (
    Draw,
    Drawn,
    draft_key,
    draw,
    ends_proposal,
    proposal_of,
)
from foredraft_engine.speculation.preview import Choose

Finish = Callable[[Tensor, Tensor], Any]
"""From logits, float32 [scored, vocab], and last hidden states [tokens fed, size], what is wanted
of them.
"""


@dataclass(slots=True)
class ScoreJob:
    """Wants the logits, float32 [scored, vocab], or what `finish` makes of them on the device
    thread.
    """

    row: int
    start: int
    ids: Sequence[int]
    scored: int = 0
    finish: Finish | None = None
    tree: Tree | None = None
    cache: CacheSpec | None = None


@dataclass(slots=True)
class DeviceCall:
    """Something for the device thread that is no forward pass: done before the next one begins."""

    run: Callable[[], Any]
    row: int = -1
    ids: Sequence[int] = ()
    scored: int = 0


@dataclass(slots=True)
class DraftJob:
    """Wants up to k tokens drafted, one in each step; stays in the engine until it has them."""

    row: int
    start: int
    ids: Sequence[int]
    tokens: Sequence[int]
    k: int
    processors: Processors
    epoch: int = 0
    confidence: float = 0.0
    width: int = 0
    deadline: float = float("inf")
    choose: Choose | None = None
    alternatives: int = 0
    scored: int = 1
    taken: list[Drawn] = field(default_factory=list)

    def advance(self, drawn: Drawn) -> bool:
        """Takes a drawn token; False when the proposal is complete."""
        self.taken.append(drawn)
        self.start, self.ids = self.start + len(self.ids), [drawn.token]
        late = time.monotonic() >= self.deadline
        return (
            len(self.taken) < self.k
            and not late
            and not ends_proposal(drawn, self.processors, self.confidence)
        )

    @property
    def drawn(self) -> list[int]:
        """The tokens so far."""
        return [d.token for d in self.taken]

    @property
    def proposal(self) -> Proposal:
        """What was drawn so far."""
        return proposal_of(self.taken, self.choose, self.alternatives)


def draft_jobs(jobs: Sequence[DraftJob], logits: Tensor) -> list[bool]:
    """Draws the next token of every proposal; logits float32 [n, vocab]. True where it goes on."""
    draws = []
    for j in jobs:
        random = draft_key(j.processors, j.epoch, len(j.tokens), len(j.drawn))
        draws.append(Draw(j.processors, [*j.tokens, *j.drawn], random, j.width, j.alternatives > 0))
    return [job.advance(drawn) for job, drawn in zip(jobs, draw(draws, logits), strict=True)]
