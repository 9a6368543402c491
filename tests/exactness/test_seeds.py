"""The same seed gives the same text: whatever drafts, in whatever batch, and whether the draft dies
half-way.
"""

import asyncio
from typing import Any

import pytest

from foredraft import AsyncClient, Result
from foredraft_engine.model.rows import Rows
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.models import loaded, random_model, rows_of
from tests.premises import begins_again, in_time

PROMPT = [5, 6, 7, 5, 6]
FIELDS: dict[str, Any] = {
    "max_new_tokens": 24,
    "do_sample": True,
    "temperature": 0.9,
    "top_k": 0,
    "seed": 11,
}
FIELDS["assistant_confidence_threshold"] = 0.0


def _rows(seed: int) -> Rows:
    return rows_of(random_model("llama", seed), 12)


async def test_the_text_depends_on_target_prompt_and_seed_alone() -> None:
    model = loaded(random_model("llama"), "llama")
    texts = set()
    async with (
        draft_service(_rows(0), model) as perfect,
        draft_service(_rows(1), model) as poor,
        draft_service(None, None) as ngram,
    ):
        for draft in ("", perfect.address, poor.address, ngram.address):
            async with (
                target_service(_rows(0), model, draft) as target,
                AsyncClient(target.address) as client,
            ):
                for k in (0, 1, 5):
                    texts.add((await _generate(client, num_assistant_tokens=k)).token_ids)
                texts.add((await _generate(client, prompt_lookup_num_tokens=4)).token_ids)
                beside = [
                    _generate(client, seed=seed, num_assistant_tokens=3) for seed in range(20, 26)
                ]
                texts.add(
                    (await asyncio.gather(_generate(client, num_assistant_tokens=3), *beside))[
                        0
                    ].token_ids
                )
    assert len(texts) == 1


@pytest.mark.parametrize("sampled", [True, False], ids=["coupled", "greedy"])
@begins_again
async def test_a_draft_killed_at_any_round_changes_nothing(sampled: bool) -> None:
    """The draft dies after round r and comes back some rounds later; the text stays."""
    vocab = 12
    model, target_rows = table_model(vocab), TableRows(random_table(vocab, 3))
    draft = draft_service(TableRows(random_table(vocab, 3)), model, ngram="off")
    fields = {**FIELDS, "num_assistant_tokens": 2, "max_new_tokens": 36}
    if not sampled:
        fields = {
            "num_assistant_tokens": 2,
            "max_new_tokens": 36,
            "assistant_confidence_threshold": 0.0,
        }
    async with (
        draft as service,
        target_service(target_rows, model, service.address, fallback="none") as target,
        AsyncClient(target.address) as client,
    ):
        whole = await client.generate(PROMPT, **fields)
        assert whole.stats.accepted == whole.stats.proposed > 12
        for killed_at in range(1, 11):
            rounds = 0
            ids: list[int] = []
            async with client.stream(PROMPT, **fields) as stream:
                async for chunk in stream:
                    ids += chunk.token_ids
                    rounds += 1
                    if rounds == killed_at:
                        await service.stop()
            assert tuple(ids) == whole.token_ids
            in_time(bool(stream.result.stats.fallbacks) or rounds <= killed_at + 1, stream.result)
            await service.start()
            await _until_used(client, fields)


async def _until_used(client: AsyncClient, fields: dict[str, Any]) -> None:
    """Waits until the target uses a draft that came back."""
    for _ in range(600):
        if (await client.generate(PROMPT, **fields)).stats.accepted > 12:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the draft came back and was not used")


@begins_again
async def test_a_draft_that_comes_back_in_mid_generation_is_used_again() -> None:
    vocab = 12
    model, table = table_model(vocab), random_table(vocab, 3)
    fields = {**FIELDS, "num_assistant_tokens": 2, "max_new_tokens": 400}
    async with (
        draft_service(TableRows(table), model, ngram="off") as service,
        # Its steps take a while, so that the generation outlives the draft's absence.
        target_service(SlowRows(table, 0.01), model, service.address, fallback="none") as target,
        AsyncClient(target.address) as client,
    ):
        plain = await client.generate(PROMPT, **{**fields, "num_assistant_tokens": 0})
        accepted: list[int] = []
        async with client.stream(PROMPT, **fields) as stream:
            async for chunk in stream:
                accepted.append(chunk.num_accepted)
                if len(accepted) == 5:
                    await service.stop()
                if len(accepted) == 15:
                    await service.start()
        assert stream.result.token_ids == plain.token_ids
        in_time(0 in accepted, accepted)
        lost = accepted.index(0)
        in_time(sum(accepted[:lost]) > 0 < sum(accepted[lost:]), accepted)


async def test_sequences_of_one_request_differ() -> None:
    model = table_model(8)
    rows = TableRows(random_table(8, 0, spread=0.5))
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        results = await client.generate(PROMPT, **FIELDS, num_return_sequences=6)
        again = await client.generate([PROMPT, PROMPT], **FIELDS)
    assert len({r.token_ids for r in results}) == 6
    assert [r.token_ids for r in again] == [r.token_ids for r in results[:2]]


async def test_statistics_say_what_a_seed_repeats() -> None:
    model, rows = table_model(8), TableRows(random_table(8, 0))
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        coupled = await client.generate(PROMPT, **FIELDS)
        rejection = await client.generate(PROMPT, **FIELDS, sampling_rule="rejection")
        unseeded = await client.generate(PROMPT, **{**FIELDS, "seed": None})
        repeated = await client.generate(
            PROMPT, **{**FIELDS, "seed": unseeded.stats.seed}, sampling_rule="rejection"
        )
    assert (coupled.stats.sampling_rule, coupled.stats.seed_repeats_with_any_drafter) == (
        "coupled",
        True,
    )
    assert (rejection.stats.sampling_rule, rejection.stats.seed_repeats_with_any_drafter) == (
        "rejection",
        False,
    )
    assert unseeded.stats.sampling_rule == "rejection"
    assert repeated.token_ids == unseeded.token_ids


async def test_generation_goes_on_from_given_tokens() -> None:
    """A text that is cut anywhere goes on as it would have, by generated_ids."""
    model, rows = table_model(8), TableRows(random_table(8, 0))
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        whole = await client.generate(PROMPT, **FIELDS, repetition_penalty=1.3)
        for cut in (1, 7, 20):
            given = whole.token_ids[:cut]
            rest = await client.generate(
                PROMPT, **FIELDS, repetition_penalty=1.3, generated_ids=given
            )
            assert given + rest.token_ids == whole.token_ids


async def _generate(client: AsyncClient, **fields: Any) -> Result:
    result: Result = await client.generate(PROMPT, **{**FIELDS, **fields})
    return result


@begins_again
async def test_what_is_looked_up_by_itself_changes_no_text() -> None:
    """A seed gives the text of plain decoding under every rule, on a target that looks up n-grams
    of its own accord: its draws are those of plain decoding, and proposals are compared with them.
    """
    vocab = 8
    rows = SlowRows(random_table(vocab, 0, spread=3.0), 0.002)
    rules: list[dict[str, Any]] = [
        {"do_sample": False},
        FIELDS,
        {**FIELDS, "sampling_rule": "rejection"},
        {**FIELDS, "sampling_rule": "rejection", "repetition_penalty": 1.2},
    ]
    async with (
        target_service(rows, table_model(vocab)) as target,
        AsyncClient(target.address) as client,
    ):
        for rule in rules:
            fields = {**rule, "max_new_tokens": 120, "eos_token_id": []}
            fields.pop("assistant_confidence_threshold", None)
            plain = await client.generate(PROMPT, **fields, num_assistant_tokens=0)
            looked_up = await client.generate(PROMPT, **fields)
            fixed = await client.generate(PROMPT, **fields, prompt_lookup_num_tokens=3)
            assert plain.token_ids == looked_up.token_ids == fixed.token_ids
            assert (plain.stats.drafter, plain.stats.rounds) == ("none", 120)
            assert fixed.stats.drafter == "ngram"
            in_time(looked_up.stats.drafter == "ngram", looked_up.stats)
            in_time(looked_up.stats.accepted > 0, looked_up.stats)
