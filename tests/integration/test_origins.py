"""Every token says where it came from, and every sequence what of drafting was hidden."""

from collections import Counter
from typing import Any, get_args

import pytest
import torch

from foredraft import AsyncClient, Chunk, InvalidRequestError, Origin, Result
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.premises import begins_again, in_time

VOCAB, PROMPT = 12, [1, 2, 3, 4]
TABLE = random_table(VOCAB, 2)
POOR = TABLE + 0.5 * random_table(VOCAB, 7)
CYCLE = torch.eye(VOCAB).roll(1, dims=1).expand(VOCAB, VOCAB, VOCAB) * 20
FIELDS: dict[str, Any] = {"max_new_tokens": 200, "eos_token_id": []}
SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 0.9, "top_k": 0, "seed": 4}


async def _chunks(client: AsyncClient, **fields: Any) -> tuple[list[Chunk], Result]:
    async with client.stream(PROMPT, **FIELDS, **fields) as stream:
        chunks = [chunk async for chunk in stream]
    return chunks, stream.result


def _check(chunks: list[Chunk], result: Result) -> Counter[str]:
    """Holds what chunks tell against the statistics; returns how many tokens came from where."""
    for chunk in chunks:
        assert len(chunk.origins) == len(chunk.token_ids)
        accepted, made = chunk.origins[: chunk.num_accepted], chunk.origins[chunk.num_accepted :]
        assert "target" not in accepted
        assert set(made) <= {"target"}
        assert "alternative" not in accepted[:-1]
    assert result.origins == tuple(origin for chunk in chunks for origin in chunk.origins)
    counts = Counter[str](result.origins)
    # A text may end inside an accepted block.
    cut = result.stats.accepted + result.stats.rounds - len(result.token_ids)
    assert 0 <= result.stats.accepted - sum(counts.values()) + counts["target"] <= max(cut, 0)
    assert set(counts) <= set(get_args(Origin)) - {"unknown"}
    return counts


@begins_again
async def test_a_draft_model_and_its_alternatives() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(POOR), model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.015), model, draft.address, fallback="none") as target,
        AsyncClient(target.address) as client,
    ):
        total = Counter[str]()
        hidden_s = waited_s = 0.0
        for _ in range(2):
            chunks, result = await _chunks(client, **SAMPLED)
            total += _check(chunks, result)
            hidden_s += result.stats.hidden_s
            waited_s += result.stats.waited_s
        beside = target.value("foredraft_spec_decode_num_accepted_alternatives_total")
        in_time(total["draft_model"] > 20, total)
        assert total["alternative"] in (beside, beside - 1)  # the last one may be cut off
        assert total["ngram"] == 0
        # The metric counts a proposal also where the round then took what was looked up.
        assert 0 < hidden_s <= target.value("foredraft_draft_hidden_seconds_total") + 1e-6
        assert 0 < waited_s <= target.value("foredraft_draft_wait_seconds_sum") + 1e-6


@begins_again
async def test_rounds_are_told() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(POOR), model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.005), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        chunks, result = await _chunks(client, **SAMPLED, return_rounds=True)
        plain = await client.generate(PROMPT, **FIELDS, **SAMPLED)
    assert plain.token_ids == result.token_ids
    assert (plain.rounds, result.rounds) == ((), tuple(chunk.round for chunk in chunks))
    stats, ended_s = result.stats, 0.0
    assert len(result.rounds) == stats.rounds
    assert sum(len(one.proposed_ids) for one in result.rounds) == stats.proposed
    assert sum(one.drafted_ahead for one in result.rounds) == stats.pushed
    in_time(stats.pushed > 0, stats)
    assert sum(one.waited_s for one in result.rounds) == pytest.approx(stats.waited_s)
    hidden_s = 0.0
    for chunk, one in zip(chunks, result.rounds, strict=True):
        assert ended_s <= one.began_s <= one.began_s + one.waited_s < one.ended_s
        ended_s = one.ended_s
        whole, last = chunk.num_accepted, chunk.origins[chunk.num_accepted - 1 :][:1]
        if last == ("alternative",):
            whole -= 1
            assert (whole, chunk.token_ids[whole]) in one.alternatives
        assert chunk.token_ids[:whole] == one.proposed_ids[:whole]
        if one.drafting_s:
            began_s, came_s = one.drafting_s
            # A round begins a moment before it waits.
            assert began_s < came_s
            in_time(came_s <= one.began_s + one.waited_s + 0.001, one)
            assert (one.proposed_by, one.fallback) == ("draft_model", "")
            hidden_s += max(0.0, came_s - began_s - one.waited_s)
    assert hidden_s == pytest.approx(stats.hidden_s)


async def test_a_search_has_no_rounds() -> None:
    async with (
        target_service(TableRows(TABLE), table_model(VOCAB)) as target,
        AsyncClient(target.address) as client,
    ):
        with pytest.raises(InvalidRequestError, match="return_rounds") as raised:
            await client.generate(PROMPT, num_beams=2, return_rounds=True)
    assert raised.value.fields == ("return_rounds", "num_beams")


async def test_a_draft_that_is_waited_for_hides_nothing() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(SlowRows(TABLE, 0.003), model, ngram="off") as draft,
        target_service(TableRows(TABLE), model, draft.address, outcomes=0) as target,
        AsyncClient(target.address) as client,
    ):
        fields = {"num_assistant_tokens": 3, "num_assistant_tokens_schedule": "constant"}
        chunks, result = await _chunks(client, **fields)
        assert _check(chunks, result)["draft_model"] > 50
        assert result.stats.waited_s > 0.003 * result.stats.waited_for > 0
        assert result.stats.hidden_s < result.stats.waited_s / 4


@pytest.mark.parametrize("by", ["the target", "a draft service"])
async def test_lookups(by: str) -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(None, None) as draft,
        target_service(
            SlowRows(CYCLE, 0.002), model, draft.address if by == "a draft service" else ""
        ) as target,
        AsyncClient(target.address) as client,
    ):
        counts = _check(*await _chunks(client))
        assert counts["ngram"] > 100
        assert counts["draft_model"] == counts["alternative"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"num_assistant_tokens": 0},
        {"num_beams": 3},
        {"max_time": 0.2},
        {"output_scores": True, "num_assistant_tokens": 0},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_without_a_proposal_all_tokens_are_the_targets_own(fields: dict[str, Any]) -> None:
    async with (
        target_service(SlowRows(TABLE, 0.002), table_model(VOCAB), fallback="none") as target,
        AsyncClient(target.address) as client,
    ):
        chunks, result = await _chunks(client, **fields)
        counts = _check(chunks, result)
        assert counts == {"target": len(result.token_ids)}
        assert (result.stats.hidden_s, result.stats.waited_s) == (0.0, 0.0)
