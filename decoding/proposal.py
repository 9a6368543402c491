"""What passes between drafting and verification: proposed tokens, the law they came from, the verdict.

Knows nothing of how they are made or carried.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


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
    """k tokens and the rows of q they were drawn from; without rows each token was certain (one-hot q)."""

    ids: tuple[int, ...] = ()
    q: SparseRows | None = None
    made_by: str = "none"

    def first(self, k: int) -> "Proposal":
        """At most the first k tokens. Lawful as long as k does not depend on the tokens."""
        if len(self.ids) <= k:
            return self
        if self.q is None:
            return Proposal(self.ids[:k], None, self.made_by)
        end = sum(self.q.counts[:k])
        q = SparseRows(self.q.ids[:end], self.q.probabilities[:end], self.q.counts[:k])
        return Proposal(self.ids[:k], q, self.made_by)


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

    @property
    def accepted(self) -> int:
        """Number of proposed tokens that were accepted."""
        return len(self.ids) - 1

    @property
    def next_id(self) -> int:
        """The token that the target made itself."""
        return self.ids[-1]
