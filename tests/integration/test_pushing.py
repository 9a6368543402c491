"""Outcomes pushed ahead over the real wire: drafted while the target verifies, and found by it."""

import asyncio
from typing import Any

import pytest

from foredraft import AsyncClient
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import LoopbackDraft, LoopbackTarget, draft_service, target_service
from tests.premises import begins_again, in_time

VOCAB = 12
TABLE, OTHER = random_table(VOCAB, 0), random_table(VOCAB, 1)
PROMPT = [1, 2, 3]
FIELDS: dict[str, Any] = {
    "max_new_tokens": 60,
    "num_assistant_tokens": 3,
    "assistant_confidence_threshold": 0.0,
    "top_k": 0,
}
LAWS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "rejection": {"do_sample": True, "sampling_rule": "rejection", "seed": 3},
    "coupled": {"do_sample": True, "seed": 3},
}


def misses(target: LoopbackTarget, reason: str) -> float:
    return target.value("foredraft_outcome_misses_total", reason=reason)


def hits(target: LoopbackTarget, arrival: str = "in_time") -> float:
    return target.value("foredraft_outcome_hits_total", arrival=arrival)


@pytest.mark.parametrize("law", LAWS)
@begins_again
async def test_what_is_foreseen_is_not_waited_for(law: str) -> None:
    """The target's steps leave the draft time, and a table with few likely tokens is easily
    foreseen.
    """
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(OTHER * 0.3 + TABLE), model, ngram="off", q_width=0) as draft,
        target_service(SlowRows(TABLE, 0.05), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, **FIELDS, **LAWS[law])
        rounds = result.stats.rounds
        in_time(hits(target) > rounds / 2, hits(target))
        missed = misses(target, "unforeseen") + misses(target, "late")
        assert hits(target) + hits(target, "late") + missed >= rounds - 2
        waited, trips = (
            target.value(f"foredraft_draft_{name}_seconds_sum") for name in ("wait", "round_trip")
        )
        # Most of the draft's time and the network's is hidden.
        in_time(waited < trips / 2, (waited, trips))
        assert draft.value("foredraft_draft_outcomes_total") >= hits(target)
        assert draft.value("foredraft_draft_wasted_tokens_total") > 0
        for direction in ("sent", "received"):
            assert target.value("foredraft_draft_bytes_total", direction=direction) > 0
        assert not result.stats.fallbacks


@begins_again
async def test_a_draft_equal_to_the_target_is_waited_for_once() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(TABLE), model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.05), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, **FIELDS)
        assert result.stats.accepted == result.stats.proposed
        assert target.value("foredraft_draft_round_trip_seconds_count") == result.stats.rounds
        in_time(hits(target) == result.stats.rounds - 1, hits(target))


async def test_pushing_can_be_turned_off() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(TABLE), model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.01), model, draft.address, outcomes=0) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, **FIELDS)
        assert result.stats.accepted == result.stats.proposed > 0
        assert (
            hits(target)
            == misses(target, "late")
            == draft.value("foredraft_draft_outcomes_total")
            == 0
        )


@begins_again
async def test_a_slow_tree_is_narrowed_to_what_came_true() -> None:
    """The target is faster than the tree: the branch that came true goes on and is waited for."""
    model = table_model(VOCAB)
    rows = SlowRows(TABLE, 0.01)
    async with (
        draft_service(rows, model, ngram="off") as draft,
        target_service(TableRows(TABLE), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, **FIELDS)
        assert result.stats.accepted == result.stats.proposed > 0
        in_time(hits(target, "late") > result.stats.rounds / 2, hits(target, "late"))
        assert not result.stats.fallbacks
        await _until_idle(draft)


@begins_again
async def test_sequences_share_the_steps_of_a_draft() -> None:
    model = table_model(VOCAB)
    rows = SlowRows(TABLE, 0.002, count=6)
    async with (
        draft_service(rows, model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.06, count=6), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        alone = await client.generate(PROMPT, **FIELDS)
        together = await asyncio.gather(*(client.generate(PROMPT, **FIELDS) for _ in range(5)))
        assert {r.token_ids for r in together} == {alone.token_ids}
        in_time(max(rows.steps) > 1, rows.steps)
        in_time(hits(target) > 3 * alone.stats.rounds, hits(target))
        await _until_idle(draft)


@begins_again
async def test_goodput_leaves_a_useless_draft_alone() -> None:
    """A draft that is always wrong is dropped if the call sets no number of assistant tokens."""
    model = table_model(VOCAB)
    wrong = -TABLE
    # Proposed tokens cost time, so that a useless draft is tried again seldom.
    slow = SlowRows(TABLE, 0.005, token_s=0.002)
    async with (
        draft_service(TableRows(wrong), model, ngram="off") as draft,
        target_service(slow, model, draft.address, fallback="none") as target,
        AsyncClient(target.address) as client,
    ):
        plain = await client.generate(PROMPT, max_new_tokens=100, num_assistant_tokens=0)
        first = await client.generate(PROMPT, max_new_tokens=100)
        later = await client.generate(PROMPT, max_new_tokens=100)
        assert first.token_ids == later.token_ids == plain.token_ids
        in_time(later.stats.proposed < 20, later.stats)


async def _until_idle(draft: LoopbackDraft) -> None:
    assert draft.engine
    for _ in range(6000):
        if not draft.engine.pool.in_use:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a row is still on loan")
