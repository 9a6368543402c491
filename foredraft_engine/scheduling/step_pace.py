"""How often a step takes large jobs beside small ones.

A step lasts as long as all of its jobs together: who decodes a token beside a prompt, or beside a
hundred candidates of a search, waits for those as well. So a step with a large job is followed by
as many without one as it takes to keep the average of the small ones within bounds. Large jobs lose
a part of their speed, and none while nobody else waits.

This module knows nothing of callers, nor of what a job does.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from foredraft_engine.job import Job
from foredraft_engine.scheduling.step_times import StepTimes

# A job of more tokens is large: more than a proposal that is verified usually has.
_LARGE_TOKENS = 32
# Small jobs take at most so many times as long as without large ones, on average.
_MOST_SLOWER = 2.0


class _Waiting(Protocol):
    @property
    def job(self) -> Job: ...


W = TypeVar("W", bound=_Waiting)


class StepPace:
    """Counts the steps that small jobs are owed."""

    def __init__(self, step_times: StepTimes, chunk_tokens: int) -> None:
        """
        Args:
            step_times: how long steps take, by their tokens.
            chunk_tokens: the largest number of tokens in a step of several jobs.
        """
        self._step_times, self._chunk_tokens = step_times, chunk_tokens
        self._owed = 0.0

    def allowed(self, waiting: Sequence[W]) -> Sequence[W]:
        """Returns the jobs that the next step may have, in the order that they are in."""
        small = [w for w in waiting if w.job.tokens_fed <= _LARGE_TOKENS]
        if not small or len(small) == len(waiting):
            return waiting
        if self._owed >= 1:
            self._owed -= 1
            return small
        few = sum(w.job.tokens_fed for w in small)
        most = min(self._chunk_tokens, sum(w.job.tokens_fed for w in waiting))
        small_s, mixed_s = self._step_times.at(few), self._step_times.at(most)
        if small_s and mixed_s:
            # One mixed step and n small ones: mixed_s + n small_s = (n + 1) _MOST_SLOWER small_s.
            owed = (mixed_s / small_s - _MOST_SLOWER) / (_MOST_SLOWER - 1)
            self._owed = max(0.0, self._owed + owed)
        return waiting
