"""Chooses how many of the tokens that were looked up are verified, so that tokens per second are
highest.

A lookup costs no waiting, so that the width of the step decides alone: while others share the step,
every token lengthens it for all of them. Time outside a step is the same with and without looked-up
tokens and is left out, which errs on the side of plain decoding.

This module knows nothing of how tokens are found.
"""

from bisect import bisect_left
from collections.abc import Sequence

from target_service.drafting.acceptance_estimate import LookupAcceptance
from target_service.drafting.shared_estimates import SharedEstimates

_MIN_GAIN = 1.03  # estimates are too coarse to tell smaller gains
_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)


class LookupGoodput:
    """Chooses for one sequence."""

    def __init__(self, shared: SharedEstimates, rows: int = 1) -> None:
        """Creates the choice of one sequence.

        Args:
            shared: the estimates of all sequences.
            rows: the number of rows that the sequence feeds in a round.
        """
        self._shared, self._rows = shared, rows
        self._acceptance = LookupAcceptance(shared.lookups)

    def most(self, match_length: int, k: int) -> int:
        """Returns how many tokens to look up, at most k; 1, to learn from, if none would pay even
        if every token after the first were right.
        """
        rate = self._acceptance.after(match_length).rates(1)[0]
        pays = any(1 + n * rate > _MIN_GAIN * self._slowdown(n) for n in _lengths(k))
        return k if pays else 1

    def choose(self, match_length: int, found: int) -> tuple[int, float]:
        """Returns how many of the tokens found are verified, 0 where plain decoding is faster, and
        the mean acceptance length of such a round, the target's own token included.

        Args:
            match_length: the number of tokens that occurred earlier, before those found.
            found: the number of tokens found.
        """
        lengths = self._acceptance.after(match_length).mean_lengths(found)
        best_k, best_rate = 0, _MIN_GAIN
        for k in _lengths(found):
            if (rate := lengths[k] / self._slowdown(k)) > best_rate:
                best_k, best_rate = k, rate
        return best_k, lengths[best_k]

    def observe(self, match_length: int, found: Sequence[int], came: Sequence[int]) -> None:
        """Records which tokens came, whether or not any of those found were verified.

        Under every rule a token that was looked up is accepted as often as it would have come.
        """
        told = min(len(found), len(came))
        right = next((i for i in range(told) if found[i] != came[i]), told)
        for acceptance in (self._acceptance, self._shared.lookups):
            acceptance.after(match_length).observe(told, right)

    def _slowdown(self, k: int) -> float:
        return self._shared.slowdown(k, self._rows)


def _lengths(most: int) -> Sequence[int]:
    """Returns the lengths that are compared with one another."""
    return (*_LENGTHS[: bisect_left(_LENGTHS, most)], most)
