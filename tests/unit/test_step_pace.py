"""Large jobs make way for small ones often enough, and never without need."""

from dataclasses import dataclass
from typing import Any

import pytest

from foredraft_engine.feed import Feed
from foredraft_engine.job import Job
from foredraft_engine.scheduling.caller import Caller
from foredraft_engine.scheduling.step_pace import StepPace
from foredraft_engine.scheduling.step_times import StepTimes


class _Fed(Job):
    def __init__(self, tokens: int) -> None:
        self._feeds = [Feed(0, 0, [1] * tokens)]

    @property
    def feeds(self) -> list[Feed]:
        return self._feeds

    @classmethod
    def finish(cls, jobs: Any, output: Any) -> Any:
        raise AssertionError("no step is run here")


@dataclass(frozen=True)
class _Waiting:
    job: Job
    caller: Caller | None = None


def _pace(large_s: float) -> StepPace:
    times = StepTimes()
    times.observe(1, 1, 0.01)
    times.observe(128, 2, large_s)
    return StepPace(times)


SMALL, LARGE = _Waiting(_Fed(1)), _Waiting(_Fed(127))


def test_small_jobs_take_at_most_twice_as_long_on_average() -> None:
    pace, spent_s, steps = _pace(0.2), 0.0, 200
    for _ in range(steps):
        spent_s += 0.2 if LARGE in pace.allowed([SMALL, LARGE], 256) else 0.01
    assert 0.9 * 2 <= spent_s / steps / 0.01 <= 1.1 * 2


@pytest.mark.parametrize(
    ("owners", "slower"),
    [(["", "", "", "", ""], 5.0), (["a", "b", "b", "b", "b"], 2.0), (["a", "b", "c"], 3.0)],
)
def test_small_calls_have_the_share_that_they_have_among_calls(
    owners: list[str], slower: float
) -> None:
    """The first call is small and the others are large; owners share before their calls do."""
    pace, spent_s, steps = _pace(0.2), 0.0, 400
    waiting = [
        _Waiting(_Fed(127 if i else 1), Caller(owner=owner)) for i, owner in enumerate(owners)
    ]
    for _ in range(steps):
        spent_s += 0.2 if len(pace.allowed(waiting, 256)) > 1 else 0.01
    assert 0.9 * slower <= spent_s / steps / 0.01 <= 1.1 * slower


def test_large_jobs_wait_for_nobody_who_is_not_there() -> None:
    pace = _pace(0.2)
    assert LARGE in pace.allowed([SMALL, LARGE], 256)
    assert all(LARGE in pace.allowed([LARGE], 256) for _ in range(10))


def test_where_a_wide_step_costs_little_every_step_has_all() -> None:
    pace = _pace(0.02)
    assert all(LARGE in pace.allowed([SMALL, LARGE], 256) for _ in range(10))


def test_a_call_of_many_sequences_makes_way_for_a_call_of_one() -> None:
    times = StepTimes()
    times.observe(1, 1, 0.01)
    times.observe(16, 16, 0.04)
    pace, large, small = StepPace(times), Caller(), Caller()
    waiting = [_Waiting(_Fed(1), large) for _ in range(15)] + [_Waiting(_Fed(1), small)]
    mixed = sum(len(pace.allowed(waiting, 256)) == 16 for _ in range(90))
    assert mixed == 30  # one step of 40 ms and two of 10 ms are 20 ms on average


def test_many_calls_of_one_sequence_share_every_step() -> None:
    pace = _pace(0.2)
    waiting = [_Waiting(_Fed(1), Caller()) for _ in range(16)]
    assert all(len(pace.allowed(waiting, 256)) == 16 for _ in range(10))
