"""A target looks n-grams up of its own accord, unless a call or its operator says otherwise."""

from typing import Any

import pytest
import torch

from foredraft import AsyncClient
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import LoopbackTarget, draft_service, target_service
from tests.premises import begins_again, in_time

VOCAB = 12
# After every token comes the next one, so that every text repeats itself.
CYCLE = torch.eye(VOCAB).roll(1, dims=1).expand(VOCAB, VOCAB, VOCAB) * 20
PROMPT = [1, 2, 3, 4]
FIELDS: dict[str, Any] = {"max_new_tokens": 100, "eos_token_id": []}


def _verified(target: LoopbackTarget) -> float:
    return target.value("foredraft_spec_decode_num_draft_tokens_total")


@begins_again
async def test_a_text_that_repeats_itself_is_looked_up() -> None:
    async with (
        target_service(SlowRows(CYCLE, 0.002), table_model(VOCAB)) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, **FIELDS)
        assert result.token_ids == tuple((5 + i) % VOCAB for i in range(100))
        assert (result.stats.drafter, dict(result.stats.fallbacks)) == ("ngram", {})
        assert _verified(target) == result.stats.proposed
        in_time(result.stats.rounds < 40 and result.stats.proposed > 60, result.stats)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({}, {"num_assistant_tokens": 0}),
        ({}, {"num_assistant_tokens_schedule": "constant"}),
        ({"fallback": "none"}, {}),
    ],
    ids=["the call says none", "the call wants a draft model", "the operator says none"],
)
async def test_who_opts_out_is_decoded_plainly(
    settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    async with (
        target_service(TableRows(CYCLE), table_model(VOCAB), **settings) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, **FIELDS, **fields)
        assert (result.stats.drafter, result.stats.rounds) == ("none", 100)
        assert _verified(target) == 0


@pytest.mark.parametrize("sampled", [{}, {"do_sample": True, "seed": 5}], ids=["greedy", "coupled"])
@begins_again
async def test_beside_a_draft_that_is_wrong_lookups_are_taken(sampled: dict[str, Any]) -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(random_table(VOCAB, 1)), model, ngram="off") as draft,
        target_service(SlowRows(CYCLE, 0.005), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        plain = await client.generate(PROMPT, **FIELDS, **sampled, num_assistant_tokens=0)
        result = await client.generate(PROMPT, **FIELDS, **sampled)
        assert result.token_ids == plain.token_ids
        in_time("ngram" in result.stats.drafter and result.stats.rounds < 60, result.stats)
        assert set(result.stats.fallbacks) <= {"cheaper"}
