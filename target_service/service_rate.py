"""How long sequences hold their rows, as measured from those that ended.

This module knows nothing of who waits.
"""

_NEW_SHARE = 0.1  # of the newest sequence in a moving mean
_FEWEST_SEEN = 4  # sequences before anything is said
# One sequence counts for at most so many times what was expected of it. A machine that was
# suspended in the middle of a text is as fast as ever afterwards.
_MOST_SLOWER = 4.0


class ServiceRate:
    """Moving means over the sequences that ended by themselves."""

    def __init__(self) -> None:
        self._spent_s = 0.0  # the time of a row
        self._generated = 1.0  # the tokens of a text
        self._share = 1.0  # how much of the allowed length texts have
        self._seen = 0

    def observe(self, generated: int, allowed: int, spent_s: float) -> None:
        """Records a sequence.

        Args:
            generated: the tokens of its text.
            allowed: the tokens that it might have had.
            spent_s: the seconds for which it held its row.
        """
        if generated < 1 or allowed < 1:
            return
        if self._seen >= _FEWEST_SEEN:
            expected_s = max(self._spent_s, self.seconds(generated))
            spent_s = min(spent_s, _MOST_SLOWER * expected_s)
        self._seen += 1
        new = max(_NEW_SHARE, 1 / self._seen)
        # Two means and no mean of ratios, in which the prompts of short texts would count most.
        self._spent_s += new * (spent_s - self._spent_s)
        self._generated += new * (generated - self._generated)
        self._share += new * (generated / allowed - self._share)

    def tokens(self, allowed: int) -> float:
        """Returns how many tokens are expected of a text that may have `allowed`."""
        return allowed * self._share

    def seconds(self, tokens: float) -> float:
        """Returns how long a row is held for a text; 0 while too little is known."""
        token_s = self._spent_s / self._generated
        return tokens * token_s if self._seen >= _FEWEST_SEEN else 0.0
