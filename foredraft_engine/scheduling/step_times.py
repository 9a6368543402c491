"""How long a step takes, by its number of tokens, as measured while the engine serves.

This module knows nothing of what the steps are for.
"""

from bisect import bisect_left

WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 512)
_WEIGHT = 0.1
# A far slower step says more about the machine than about the width: a measurement counts as at
# most twice the average.
_OUTLIER = 2.0


class StepTimes:
    """Running averages for a few widths, with linear interpolation in between."""

    def __init__(self) -> None:
        self._times_s: dict[int, float] = {}
        self.jobs = 1.0
        """The running average of jobs in a step."""
        self.observed = 0
        """The number of measurements."""

    def observe(self, tokens: int, jobs: int, spent_s: float | None) -> None:
        """Records that a step over `tokens` tokens of `jobs` jobs took `spent_s` seconds; None if
        its time tells nothing about others.
        """
        self.jobs += _WEIGHT * (jobs - self.jobs)
        if spent_s is None:
            return
        width = WIDTHS[min(bisect_left(WIDTHS, tokens), len(WIDTHS) - 1)]
        old = self._times_s.get(width)
        # A new dictionary each time, because other threads read it.
        new = spent_s if old is None else old + _WEIGHT * (min(spent_s, _OUTLIER * old) - old)
        self._times_s = dict(sorted({**self._times_s, width: new}.items()))
        self.observed += 1

    def at(self, tokens: float) -> float | None:
        """Returns the seconds that a step over `tokens` tokens takes; None before any step.

        Outside the measured widths it is the time of the nearest one.
        """
        times = self._times_s
        if not times:
            return None
        widths = list(times)
        right = bisect_left(widths, tokens)
        if right == len(widths):
            return times[widths[-1]]
        if right == 0 or widths[right] == tokens:
            return times[widths[right]]
        a, b = widths[right - 1], widths[right]
        return times[a] + (times[b] - times[a]) * (tokens - a) / (b - a)
