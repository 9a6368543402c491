"""Previews: what a draft expects of a verification that is not over yet.

Outcomes to draft ahead for, and alternatives to verify, are chosen from a preview.

This module knows nothing of how earlier verifications ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from foredraft_engine.transfer import HostArray

RANKS = 16
"""The largest number of candidates for the token at one position."""


@dataclass(frozen=True, slots=True)
class Preview:
    """How sure the draft was of each token of a proposal, and which other tokens were likely.

    A verification of k tokens and m alternatives ends at a node. At node j <= k it accepts the
    first j tokens; the nodes k + 1 to k + m are those of the alternatives.
    """

    confidences: tuple[float, ...] = ()
    """The draft's probability of each proposed token."""
    candidates: tuple[tuple[int, ...], ...] = ()
    """The likely next tokens at each node, the best first. The first k nodes leave out the proposed
    token.
    """
    likelihoods: tuple[tuple[float, ...], ...] = ()
    """The probability of each candidate if the verification ends at the node; the sum is near 1."""
    proposed: tuple[int, ...] = ()
    """The proposed tokens."""
    alternatives: tuple[tuple[int, int], ...] = ()
    """The alternatives, as in `Proposal`."""

    def depth(self, node: int) -> int:
        """Returns how many proposed tokens a verification accepts that ends at a node."""
        k = len(self.confidences)
        return node if node <= k else self.alternatives[node - k - 1][0]

    def outcome_of(self, path: Sequence[int]) -> tuple[int, int] | None:
        """Returns the outcome that committed these tokens: its node, and the token that followed.

        None if the tokens end within the proposal.
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


Candidates = tuple[tuple[int, ...], tuple[float, ...]]
"""Likely tokens at one position, the best first, and their likelihoods."""


def likely(ranked: Tensor, excluded: Tensor) -> list[Tensor]:
    """Returns the likely tokens at each position, for `candidates_of` on the host.

    Args:
        ranked: scores whose largest is the most likely token, [n, vocab].
        excluded: an id to leave out, for each of the first rows, int64 [at most n].

    Returns:
        The ids, int64 [n, candidates], and their likelihoods, float32 [n, candidates].
    """
    best = ranked.float().topk(min(RANKS + 1, ranked.shape[1]), dim=-1)
    first = best.indices[: len(excluded)] == excluded[:, None]
    best.values[: len(excluded)].masked_fill_(first, float("-inf"))
    # The likelihoods are those among these few, which have most of the mass.
    return [best.indices, best.values.softmax(dim=-1)]


def candidates_of(ids: HostArray, likelihoods: HostArray) -> list[Candidates]:
    """Returns the candidates at each position from what `likely` made, both [n, candidates]."""
    found = []
    for row_ids, row in zip(ids.tolist(), likelihoods.tolist(), strict=True):
        pairs = [(i, v) for i, v in zip(row_ids, row, strict=True) if v > 0][:RANKS]
        found.append((tuple(i for i, _ in pairs), tuple(v for _, v in pairs)))
    return found
