"""Rows go by turns: between owners, between calls, and to searches that need several at once."""

import asyncio

import pytest

from foredraft_engine.errors import LateStartError
from foredraft_engine.scheduling.caller import Caller, act_for
from foredraft_engine.scheduling.row_pool import RowPool


class _Sequences:
    """Sequences that hold a row until the test ends them, in the order in which they began."""

    def __init__(self, rows: int) -> None:
        self.pool = RowPool(rows)
        self.began: list[str] = []
        self._ends: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, name: str, caller: Caller, sequences: int = 1, rows: int = 1) -> None:
        for _ in range(sequences):
            self.tasks.append(asyncio.create_task(self._hold(name, caller, rows)))
        await asyncio.sleep(0)

    async def end_first(self) -> None:
        self._ends.pop(0).set()
        for _ in range(4):
            await asyncio.sleep(0)

    async def _hold(self, name: str, caller: Caller, rows: int) -> None:
        act_for(caller)
        async with self.pool.lend_several([[1]] * rows, caller.owner):
            self.began.append(name)
            end = asyncio.Event()
            self._ends.append(end)
            await end.wait()


async def _ended(sequences: _Sequences) -> None:
    for task in sequences.tasks:
        task.cancel()
    await asyncio.wait(sequences.tasks)
    assert sequences.pool.in_use == sequences.pool.waiting == 0


async def test_a_call_of_many_sequences_lets_others_go_first() -> None:
    sequences = _Sequences(4)
    await sequences.ask("many", Caller("me"), 20)
    await sequences.ask("mine", Caller("me"))
    await sequences.ask("yours", Caller("you"))
    assert sequences.began == ["many"] * 4
    await sequences.end_first()
    await sequences.end_first()
    assert sequences.began[4:] == ["yours", "mine"]
    await sequences.end_first()
    assert sequences.began[6:] == ["many"]
    await _ended(sequences)


async def test_a_share_of_the_rows_is_kept_for_calls_that_hold_none() -> None:
    sequences = _Sequences(16)
    await sequences.ask("many", Caller(), 30)
    assert sequences.pool.in_use == 14
    await sequences.ask("one", Caller())
    assert sequences.began[-1] == "one"
    await _ended(sequences)


async def test_a_search_of_several_rows_is_not_overtaken_for_ever() -> None:
    sequences = _Sequences(4)
    await sequences.ask("first", Caller("a"), 4)
    await sequences.ask("search", Caller("b"), rows=4)
    for owner in "cdefgh":
        await sequences.ask("later", Caller(owner))
    for _ in range(4):
        await sequences.end_first()
    assert sequences.began == [*["first"] * 4, "search"]
    await sequences.end_first()
    assert sequences.began[5:] == ["later"] * 4
    await _ended(sequences)


async def test_who_is_late_when_the_turn_comes_never_begins() -> None:
    sequences = _Sequences(1)
    await sequences.ask("first", Caller())
    await sequences.ask("late", Caller(is_late=lambda: True))
    await sequences.ask("second", Caller())
    await sequences.end_first()
    assert sequences.began == ["first", "second"]
    with pytest.raises(LateStartError):
        await sequences.tasks[1]
    await _ended(sequences)
