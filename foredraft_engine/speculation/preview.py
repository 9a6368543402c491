"""What a draft thinks of a verification before it is over: how sure it was of each token, and what
else was likely.

Outcomes of the verification are chosen from it, and tokens that are worth verifying beside the
proposal. Knows nothing of what became of earlier ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

RANKS = 16
"""Candidates for the token after each position."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Of a proposal of k tokens and m alternatives to them.

    A verification ends at a node: 0 to k are so many tokens of the proposal accepted, k + 1 to k +
    m the alternatives.
    """

    confidences: tuple[float, ...] = ()
    """The draft's probability of each proposed token."""
    candidates: tuple[tuple[int, ...], ...] = ()
    """At each node, the likely next tokens, best first; at the first k not the proposed one."""
    likelihoods: tuple[tuple[float, ...], ...] = ()
    """Of each candidate, if the verification ends there; about 1 in sum."""
    proposed: tuple[int, ...] = ()
    alternatives: tuple[tuple[int, int], ...] = ()
    """(at, id): what may stand in place of proposed token `at`."""

    def depth(self, node: int) -> int:
        """Tokens of the proposal that stand where a verification ends at this node."""
        k = len(self.confidences)
        return node if node <= k else self.alternatives[node - k - 1][0]

    def outcome_of(self, path: Sequence[int]) -> tuple[int, int] | None:
        """The node at which a verification ended that committed these tokens, and the token after
        it.
        """
        at = 0
        while at < len(path) and at < len(self.proposed) and path[at] == self.proposed[at]:
            at += 1
        if at == len(path):
            return None
        if (at, path[at]) not in self.alternatives or at + 1 == len(path):
            return at, path[at]
        return len(self.confidences) + 1 + self.alternatives.index((at, path[at])), path[at + 1]


Chooser = Callable[[Preview, int], Sequence[tuple[int, int]]]
"""Chooses outcomes from a preview, as many as the second argument at most. Each is a node and the
rank of the candidate that follows there.
"""


def likely(ranked: Tensor, excluded: Tensor) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Candidates and their likelihoods by scores [n, vocab], but for one excluded id in each of the
    first rows.
    """
    best = ranked.float().topk(min(RANKS + 1, ranked.shape[1]), dim=-1)
    first = best.indices[: len(excluded)] == excluded[:, None]
    best.values[: len(excluded)].masked_fill_(first, float("-inf"))
    likelihoods = best.values.softmax(dim=-1)  # of these few, which are most of the mass
    found = []
    for ids, values in zip(best.indices.tolist(), likelihoods.tolist(), strict=True):
        pairs = [(i, v) for i, v in zip(ids, values, strict=True) if v > 0][:RANKS]
        found.append((tuple(i for i, _ in pairs), tuple(v for _, v in pairs)))
    return found
