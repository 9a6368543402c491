"""What passes between drafting and verification: proposed tokens, the law they came from, the
verdict.

Knows nothing of how they are made or carried.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foredraft_engine.score_rows import ScoreRow


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Rows of q with few entries: one row for each proposed token.

    ids: uint32 [entries], probabilities: float32 [entries], counts: entries of each row.
    """

    ids: NDArray[np.uint32]
    probabilities: NDArray[np.float32]
    counts: tuple[int, ...]

    @staticmethod
    def join(rows: "list[SparseRows]") -> "SparseRows":
        """Stacks rows one after another."""
        return SparseRows(
            np.concatenate([r.ids for r in rows]),
            np.concatenate([r.probabilities for r in rows]),
            tuple(n for r in rows for n in r.counts),
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """k tokens and the rows of q they were drawn from;

    without rows each token was certain (one-hot q).
    """

    ids: tuple[int, ...] = ()
    q: SparseRows | None = None
    made_by: str = "none"
    alternatives: tuple[tuple[int, int], ...] = ()
    """(at, id): verified beside the others in place of ids[at], where acceptance is equality.

    The likeliest first.
    """

    def first(self, k: int, alternatives: int = 0) -> "Proposal":
        """At most the first k tokens. Lawful as long as k does not depend on the tokens."""
        if len(self.ids) <= k and len(self.alternatives) <= alternatives:
            return self
        beside = tuple((at, token) for at, token in self.alternatives if at < k)[:alternatives]
        if self.q is None or len(self.ids) <= k:
            return Proposal(self.ids[:k], self.q, self.made_by, beside)
        end = sum(self.q.counts[:k])
        q = SparseRows(self.q.ids[:end], self.q.probabilities[:end], self.q.counts[:k])
        return Proposal(self.ids[:k], q, self.made_by, beside)

    def allows(self, accepted: Sequence[int]) -> bool:
        """Whether these tokens can be what a verification accepted of it."""
        ids, end = tuple(accepted), len(accepted) - 1
        return self.ids[: len(ids)] == ids or (
            self.ids[:end] == ids[:end] and (end, ids[end]) in self.alternatives
        )


NOTHING = Proposal()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A way that a verification may go, and the proposal for it.

    path: the tokens after the base: those accepted, then the target's own; () on the base itself.
    """

    path: tuple[int, ...]
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities at one position: of the chosen token, and of the most likely ones."""

    chosen: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the target made of a proposal: the accepted ids, then one recovered or bonus id."""

    ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = field(default=())
    used_alternative: bool = False
    """Whether the last of those accepted is an alternative."""
    scores: tuple[ScoreRow, ...] = ()
    """By which the tokens were chosen, if asked for."""
    logits: tuple[ScoreRow, ...] = ()
    """The model's own, likewise."""

    @property
    def accepted(self) -> int:
        """Number of proposed tokens that were accepted."""
        return len(self.ids) - 1

    @property
    def next_id(self) -> int:
        """The token that the target made itself."""
        return self.ids[-1]
