"""Which outcomes of a verification are worth drafting ahead for: what commits told of earlier ones.

An outcome is a number of accepted tokens and a candidate after them, see `decoding.ahead`. Knows nothing of
tokens or trees.
"""

from math import sqrt

from decoding.ahead import RANKS, View

_BINS = 10
_DECAY = 0.995  # of what was seen, at every commit
_PRIOR = 4.0  # observations' worth of what is believed before any
_LEAST = 0.002  # a less likely outcome is not worth its width


class Foresight:
    """How often tokens are accepted by how sure the draft was of them, and which candidates come next."""

    def __init__(self) -> None:
        self._tried = [_PRIOR] * _BINS
        self._stood = [_PRIOR * (i + 0.5) / _BINS for i in range(_BINS)]
        # After a rejection, and after all were accepted.
        self._ranks = [[_PRIOR * 0.4 * 0.55**rank for rank in range(RANKS)] for _ in range(2)]
        self._nexts = [_PRIOR, _PRIOR]

    def choose(self, view: View, most: int) -> list[tuple[int, int]]:
        """The most likely outcomes: (accepted tokens, rank of the candidate)."""
        reached, likely = 1.0, []
        for at, candidates in enumerate(view.likelihoods):
            whole = at == len(view.confidences)
            accepted = 0.0 if whole else self._acceptance(view.confidences[at])
            # What the draft thinks of a candidate, and how such candidates fared: neither is right alone.
            chances = [
                sqrt(p * seen / self._nexts[whole]) for p, seen in zip(candidates, self._ranks[whole], strict=False)
            ]
            likely += [(reached * (1 - accepted) * chance, at, rank) for rank, chance in enumerate(chances)]
            reached *= accepted
        likely = sorted((one for one in likely if one[0] > _LEAST), reverse=True)
        return [(at, rank) for _, at, rank in likely[:most]]

    def observe(self, view: View, accepted: int, next_id: int) -> None:
        """A verification accepted so many tokens, and then came this one."""
        if accepted >= len(view.candidates):
            return
        for i, confidence in enumerate(view.confidences[: accepted + 1]):
            at = _bin(confidence)
            self._tried[at] = _DECAY * self._tried[at] + 1
            self._stood[at] = _DECAY * self._stood[at] + (i < accepted)
        whole, candidates = accepted == len(view.confidences), view.candidates[accepted]
        rank = candidates.index(next_id) if next_id in candidates else None
        self._nexts[whole] = _DECAY * self._nexts[whole] + 1
        ranks = self._ranks[whole]
        self._ranks[whole] = [_DECAY * seen + (at == rank) for at, seen in enumerate(ranks)]

    def _acceptance(self, confidence: float) -> float:
        at = _bin(confidence)
        return self._stood[at] / self._tried[at]


def _bin(confidence: float) -> int:
    return min(int(confidence * _BINS), _BINS - 1)
