"""Estimates of how many proposed tokens will be accepted, by position.

This module knows nothing of time.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from operator import mul

_PRIOR_ROUNDS = 4.0  # the weight of the prior, in rounds
_PRIOR_RATE = 0.7  # of the first token; later positions take over from the position before
_DECAY = 0.97  # of older rounds, for each new one
_MAX_POSITIONS = 32  # positions that are told apart
ALTERNATIVE_COUNTS = (0, 4, 8, 16, 32)
"""The numbers of alternatives that are compared with one another."""
_PRIOR_RESCUE_RATES = (0.35, 0.45, 0.55, 0.6)  # for each of those numbers but 0
_MATCHES = (1, 2, 4, 8)  # lengths of matches that are told apart, each up to the next
_PRIOR_LOOKUP_RATES = (0.15, 0.35, 0.6, 0.85)  # of the first token after each of these matches
# Texts either quote or do not, so that what a sequence shows itself soon counts more than others.
_LOOKUP_PRIOR_ROUNDS = 2.0


class AcceptanceEstimate:
    """How often the token at a position is accepted, provided that all tokens before it are."""

    def __init__(
        self,
        prior: "AcceptanceEstimate | None" = None,
        first_rate: float = _PRIOR_RATE,
        prior_rounds: float = _PRIOR_ROUNDS,
    ) -> None:
        """Creates an estimate from a prior, which counts until enough rounds were observed.

        Args:
            prior: the estimate of all sequences together; None starts from constants.
            first_rate: the prior of the first token, without an estimate of all sequences.
            prior_rounds: the weight of the prior, in rounds.
        """
        self._first_rate = first_rate
        self._prior_rates = prior.rates(_MAX_POSITIONS) if prior else None
        self._prior_rounds = [prior_rounds] * _MAX_POSITIONS
        # At each position: rounds that reached it, and those in which its token was accepted.
        self._reached = [0.0] * _MAX_POSITIONS
        self._accepted = [0.0] * _MAX_POSITIONS
        rescue_rates: tuple[float, ...] = _PRIOR_RESCUE_RATES
        if prior:
            rescue_rates = tuple(prior.rescue_rate(n) for n in ALTERNATIVE_COUNTS[1:])
        # For each number of alternatives: [rounds rescued, rounds with a rejection].
        self._rescues = [[_PRIOR_ROUNDS * rate, _PRIOR_ROUNDS] for rate in rescue_rates]

    def rates(self, k: int) -> list[float]:
        """Returns the acceptance rates of the first k positions.

        A position that was never reached has the rate of the position before it.
        """
        rates: list[float] = []
        for i in range(min(k, _MAX_POSITIONS)):
            before = rates[-1] if rates else self._first_rate
            prior = self._prior_rates[i] if self._prior_rates else before
            weight = self._prior_rounds[i]
            rates.append((self._accepted[i] + weight * prior) / (self._reached[i] + weight))
        return rates + rates[-1:] * (k - len(rates))

    def mean_length(self, k: int, alternatives: int = 0) -> float:
        """Returns the mean acceptance length of rounds with k proposed tokens, the target's own
        token included.
        """
        length, reached = 1.0, 1.0
        for rate in self.rates(k):
            reached *= rate
            length += reached
        return length + (1 - reached) * self.rescue_rate(alternatives)

    def mean_lengths(self, k: int) -> list[float]:
        """Returns the mean acceptance lengths of rounds with 0 to k proposed tokens."""
        return list(accumulate(accumulate(self.rates(k), mul), initial=1.0))

    def rescue_rate(self, alternatives: int) -> float:
        """Returns how often one of the alternatives is accepted when a proposed token is not."""
        if not alternatives:
            return 0.0
        rescued, rejected = self._rescues[_bucket(alternatives)]
        return rescued / rejected

    def observe(self, proposed: int, accepted: int) -> None:
        """Records one verification; an accepted alternative does not count as accepted here."""
        for i in range(min(proposed, accepted + 1, _MAX_POSITIONS)):
            self._prior_rounds[i] *= _DECAY
            self._reached[i] = _DECAY * self._reached[i] + 1
            self._accepted[i] = _DECAY * self._accepted[i] + (i < accepted)

    def observe_rescue(self, alternatives: int, rescued: bool) -> None:
        """Records whether one of the alternatives was accepted where a proposed token was not."""
        counts = self._rescues[_bucket(alternatives)]
        counts[:] = [_DECAY * counts[0] + rescued, _DECAY * counts[1] + 1]


class LookupAcceptance:
    """How often tokens that were looked up are accepted, by the length of the match: a long one is
    no accident.
    """

    def __init__(self, prior: "LookupAcceptance | None" = None) -> None:
        """Creates estimates.

        Args:
            prior: the estimates of all sequences together; None starts from constants.
        """
        self._by_match = [
            AcceptanceEstimate(prior.after(match) if prior else None, rate, _LOOKUP_PRIOR_ROUNDS)
            for match, rate in zip(_MATCHES, _PRIOR_LOOKUP_RATES, strict=True)
        ]

    def after(self, match_length: int) -> AcceptanceEstimate:
        """Returns the estimate for tokens that follow a match of at least one token."""
        return self._by_match[bisect_right(_MATCHES, match_length) - 1]


def _bucket(alternatives: int) -> int:
    last = len(ALTERNATIVE_COUNTS) - 1
    return min(bisect_left(ALTERNATIVE_COUNTS, alternatives), last) - 1
