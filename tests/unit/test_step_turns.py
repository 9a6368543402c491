"""Steps that have no room for all jobs are shared by tokens, between owners and between calls."""

from dataclasses import dataclass

from foredraft_engine.feed import Feed
from foredraft_engine.scheduling.caller import Caller
from foredraft_engine.scheduling.jobs import ScoreJob
from foredraft_engine.scheduling.step_turns import StepTurns


@dataclass
class _Waiting:
    job: ScoreJob
    caller: Caller | None


def _waiting(caller: Caller | None, tokens: int) -> _Waiting:
    return _Waiting(ScoreJob(Feed(0, 0, [1] * tokens)), caller)


def test_a_dear_job_does_not_run_twice_before_others_run_once() -> None:
    turns, dear, cheap = StepTurns(), Caller("a"), Caller("b")
    order = []
    for _ in range(21):
        first = turns.ordered([_waiting(dear, 100), _waiting(cheap, 10)])[0]
        turns.took([first])
        order.append("dear" if first.caller is dear else "cheap")
    assert order == ["dear", *["cheap"] * 10, "dear", *["cheap"] * 9]


def test_many_calls_of_one_owner_have_one_share() -> None:
    turns, calls, other = StepTurns(), [Caller("a") for _ in range(5)], Caller("b")
    given = {"a": 0, "b": 0}
    for _ in range(20):
        waiting = [*(_waiting(call, 10) for call in calls), _waiting(other, 10)]
        first = turns.ordered(waiting)[0]
        turns.took([first])
        assert first.caller
        given[first.caller.owner] += 1
    assert given == {"a": 10, "b": 10}


def test_nobody_saves_up_turns() -> None:
    turns, busy, late = StepTurns(), Caller("a"), Caller("b")
    for _ in range(50):
        turns.took([turns.ordered([_waiting(busy, 10), _waiting(Caller("a"), 500)])[0]])
    order = []
    for _ in range(8):
        first = turns.ordered([_waiting(busy, 10), _waiting(late, 10)])[0]
        turns.took([first])
        order.append(first.caller)
    assert order.count(busy) == 4


def test_jobs_of_nobody_keep_their_order() -> None:
    waiting = [_waiting(None, tokens) for tokens in (5, 1, 3)]
    assert StepTurns().ordered(waiting) == waiting
