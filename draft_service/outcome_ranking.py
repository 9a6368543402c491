"""Ranks the outcomes of a verification that are worth drafting ahead for, by what commits told of
earlier ones.

An outcome is the node where a verification ends and the token after it, see
`foredraft_engine.speculation.preview`. The same ranking chooses the alternatives that are worth
verifying. This module knows nothing of models or trees.
"""

from collections.abc import Sequence
from math import sqrt

from foredraft_engine.speculation.preview import RANKS, Preview

_BINS = 10
_DECAY = 0.995  # weight of what was seen before, at every commit
_PRIOR = 4.0  # weight of the prior, in observations
_LEAST = 0.002  # a less likely outcome is not worth its width


class OutcomeRanking:
    """Learns how often a token is accepted given the draft's confidence, and at which rank the next
    token stands.
    """

    def __init__(self) -> None:
        self._tried = [_PRIOR] * _BINS
        self._stood = [_PRIOR * (i + 0.5) / _BINS for i in range(_BINS)]
        # One list for verifications that ended in a rejection, one for those that accepted
        # everything.
        self._ranks = [[_PRIOR * 0.4 * 0.55**rank for rank in range(RANKS)] for _ in range(2)]
        self._nexts = [_PRIOR, _PRIOR]

    def choose(self, preview: Preview, most: int) -> list[tuple[int, int]]:
        """Returns the most likely outcomes as (node of the preview, rank of the candidate)."""
        k, reached, found = len(preview.confidences), 1.0, []
        beside = {alternative: k + 1 + i for i, alternative in enumerate(preview.alternatives)}
        for at in range(min(k + 1, len(preview.candidates))):
            accepted = self._acceptance(preview.confidences[at]) if at < k else 0.0
            for rank, chance in enumerate(self._chances(preview, at)):
                likely, node = (
                    reached * (1 - accepted) * chance,
                    beside.get((at, preview.candidates[at][rank])),
                )
                if node is None:
                    found.append((likely, at, rank))
                else:  # the alternative is verified too, and the outcome is the token after it
                    found += [
                        (likely * then, node, after)
                        for after, then in enumerate(self._chances(preview, node))
                    ]
            reached *= accepted
        found = sorted((one for one in found if one[0] > _LEAST), reverse=True)
        return [(node, rank) for _, node, rank in found[:most]]

    def _chances(self, preview: Preview, node: int) -> list[float]:
        """Returns the probability of each candidate at a node.

        It is the geometric mean of the draft's probability and of how often a candidate of that
        rank came true, since neither is right alone.
        """
        whole = node >= len(preview.confidences)
        ranks, nexts = self._ranks[whole], self._nexts[whole]
        return [
            sqrt(p * seen / nexts)
            for p, seen in zip(preview.likelihoods[node], ranks, strict=False)
        ]

    def observe(self, preview: Preview, path: Sequence[int]) -> None:
        """Learns from a verification that committed these tokens."""
        early_verdict = preview.outcome_of(path)
        if early_verdict is None or early_verdict[0] >= len(preview.candidates):
            return
        node, next_id = early_verdict
        accepted, k = preview.depth(node), len(preview.confidences)
        for i, confidence in enumerate(preview.confidences[: accepted + 1]):
            at = _bin(confidence)
            self._tried[at] = _DECAY * self._tried[at] + 1
            self._stood[at] = _DECAY * self._stood[at] + (i < accepted)
        self._ranked(node >= k, preview.candidates[node], next_id)
        if node > k:
            self._ranked(False, preview.candidates[accepted], path[accepted])

    def _ranked(self, whole: bool, candidates: Sequence[int], token: int) -> None:
        rank = candidates.index(token) if token in candidates else None
        self._nexts[whole] = _DECAY * self._nexts[whole] + 1
        self._ranks[whole] = [
            _DECAY * seen + (at == rank) for at, seen in enumerate(self._ranks[whole])
        ]

    def _acceptance(self, confidence: float) -> float:
        at = _bin(confidence)
        return self._stood[at] / self._tried[at]


def _bin(confidence: float) -> int:
    return min(int(confidence * _BINS), _BINS - 1)
