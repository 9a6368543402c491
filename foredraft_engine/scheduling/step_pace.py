"""How often a step takes what large calls want beside small ones.

A step lasts as long as all of its jobs together: who decodes a token beside a prompt, a hundred
candidates of a search or two hundred sequences of one call waits for those as well. So a step with
a large call is followed by as many without one as it takes to keep the average of the small ones
within bounds. Large calls lose a part of their speed, and none while nobody else waits. Where a
wide step takes hardly longer than a narrow one, as on an accelerator, nobody makes way.

The bound is the share of the device that small calls have a right to: as many parts of its time as
there are calls, each owner's calls together as much as another's, and never more than half. So one
prompt beside many texts takes half of the time; fifteen prompts that arrive together are not held
up for the one text that runs already.

This module knows nothing of what a job does.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.scheduling.waiting import W, WaitingJob

# What a small call has at most in one step: a few sequences, or a long proposal for one.
_SMALL_ROWS, _SMALL_TOKENS = 3, 32
# Of the device's time, small calls have at most this share to themselves.
_MOST_SHARE = 0.5


class StepPace:
    """Counts the steps that small calls are owed."""

    def __init__(self, step_times: StepTimes) -> None:
        """Owes nothing yet. step_times: how long steps take, by their tokens."""
        self._step_times = step_times
        self._owed = 0.0

    def allowed(self, waiting: Sequence[W], most_tokens: int) -> Sequence[W]:
        """Returns the jobs that the next step may have, in the order that they are in.

        Args:
            most_tokens: the largest number of tokens in the step.
        """
        small = _small(waiting)
        if not small or len(small) == len(waiting):
            return waiting
        if self._owed >= 1:
            self._owed -= 1
            return small
        few = sum(w.job.tokens_fed for w in small)
        most = min(most_tokens, sum(w.job.tokens_fed for w in waiting))
        small_s, mixed_s = self._step_times.at(few), self._step_times.at(most)
        if small_s and mixed_s:
            slower = 1 / min(_MOST_SHARE, _share(small, waiting))
            # One mixed step and n small ones: mixed_s + n small_s = (n + 1) slower small_s.
            owed = (mixed_s / small_s - slower) / (slower - 1)
            self._owed = max(0.0, self._owed + owed)
        return waiting


def _small(waiting: Sequence[W]) -> list[W]:
    """Returns the jobs of small calls; a job that nobody is named for is a call of its own."""
    rows: Counter[Hashable] = Counter()
    tokens: Counter[Hashable] = Counter()
    for one in waiting:
        rows[_call(one)] += len(one.job.feeds)
        tokens[_call(one)] += one.job.tokens_fed
    return [
        one
        for one in waiting
        if rows[_call(one)] <= _SMALL_ROWS and tokens[_call(one)] <= _SMALL_TOKENS
    ]


def _share(small: Sequence[W], waiting: Sequence[W]) -> float:
    """Returns the share of the device that small calls have a right to, over 0 and at most 1."""
    few, all_calls = _calls_by_owner(small), _calls_by_owner(waiting)
    return sum(few[owner] / calls for owner, calls in all_calls.items()) / len(all_calls)


def _calls_by_owner(waiting: Sequence[W]) -> Counter[str]:
    calls = {_call(one): one.caller.owner if one.caller else "" for one in waiting}
    return Counter(calls.values())


def _call(one: WaitingJob) -> Hashable:
    return one.caller or id(one)
