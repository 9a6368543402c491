"""How long work on some tokens takes, as a fixed part and a part for each token.

A mean by token would mistake the fixed part for more tokens: short proposals would make long ones
look dear, so that proposals would become shorter still.

This module knows nothing of what the work is.
"""

from dataclasses import dataclass

_KEPT = 0.98  # weight of what was measured before, at each measurement; it tells the two parts
_ORIGIN = 1.0  # weight of the belief that work on nothing takes no time
_LONGEST = 3.0  # a far slower measurement says more about the machine than about the work


@dataclass(slots=True)
class LinearTime:
    """A line through recent measurements, and by how much the newest are above or below it."""

    first_s: float
    """The time for each token before any was measured."""
    _scale: float = 1.0
    _weight: float = 0.0
    _n: float = 0.0
    _s: float = 0.0
    _nn: float = 0.0
    _ns: float = 0.0

    def observe(self, tokens: int, spent_s: float, weight: float) -> None:
        """Records a measurement.

        Args:
            weight: of the measurement beside those before it.
        """
        if self._weight:
            ratio = min(spent_s / self._line(tokens), _LONGEST * self._scale)
            self._scale += weight * (ratio - self._scale)
            spent_s = min(spent_s, _LONGEST * self._scale * self._line(tokens))
        self._weight = _KEPT * self._weight + 1
        self._n = _KEPT * self._n + tokens
        self._s = _KEPT * self._s + spent_s
        self._nn = _KEPT * self._nn + tokens * tokens
        self._ns = _KEPT * self._ns + tokens * spent_s

    def at(self, tokens: int) -> float:
        """Returns the time that work on so many tokens takes now."""
        return self._scale * self._line(tokens)

    def _line(self, tokens: int) -> float:
        """Returns the time by least squares, with the origin as one more measurement."""
        if not self._weight or not self._s:
            return self.first_s * tokens
        weight = self._weight + _ORIGIN
        mean_n, mean_s = self._n / weight, self._s / weight
        slope_s = (self._ns / weight - mean_n * mean_s) / (self._nn / weight - mean_n**2)
        fixed_s = mean_s - slope_s * mean_n
        if fixed_s < 0:
            return tokens * self._s / self._n
        return fixed_s + tokens * slope_s if slope_s > 0 else self._s / self._weight
