"""The turns in which callers share steps that have no room for all jobs.

Whoever was given the fewest tokens goes first: among owners, then among the calls of an owner (fair
queueing, Demers et al., SIGCOMM 1989). A caller that comes anew begins with what those who wait
have been given, so that nobody saves up turns.

This module knows nothing of what a job does.
"""

from collections.abc import Sequence

from foredraft_engine.scheduling.caller import Caller
from foredraft_engine.scheduling.waiting import W

_MOST_CALLERS = 4096  # whose tokens are remembered


class StepTurns:
    """Counts the tokens that owners and calls were given."""

    def __init__(self) -> None:
        self._given: dict[Caller | str, float] = {}
        self._least = 0.0  # given to any of those who waited last

    def ordered(self, waiting: Sequence[W]) -> list[W]:
        """Returns jobs in the order of their turns; equals keep their order."""
        if len({w.caller for w in waiting}) <= 1:
            return list(waiting)
        self._begin(waiting)
        return sorted(waiting, key=self._given_to)

    def took(self, batch: Sequence[W]) -> None:
        """Records that these jobs have a place in the next step."""
        for one in batch:
            if one.caller is None:
                continue
            for holder in (one.caller, one.caller.owner):
                given = self._given.get(holder, self._least)
                self._given[holder] = given + one.job.tokens_fed

    def _begin(self, waiting: Sequence[W]) -> None:
        holders = [h for w in waiting if w.caller for h in (w.caller, w.caller.owner)]
        known = [self._given[holder] for holder in holders if holder in self._given]
        self._least = max(self._least, min(known, default=self._least))
        if len(self._given) > _MOST_CALLERS:
            self._given = {h: self._given[h] for h in holders if h in self._given}
        for holder in holders:
            self._given[holder] = max(self._given.get(holder, 0.0), self._least)

    def _given_to(self, waiting: W) -> tuple[float, float]:
        caller = waiting.caller
        if caller is None:
            return self._least, self._least
        return self._given[caller.owner], self._given[caller]
