"""Watermarks are as strong in assisted text as in plain text, and greedy text is that of
transformers.
"""

import statistics
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import SynthIDTextWatermarkingConfig, WatermarkingConfig

from foredraft import AsyncClient, InvalidRequestError, Result
from tests.loopback import draft_service, target_service
from tests.models import bundled, loaded, random_model, rows_of, stock

GREEN: dict[str, Any] = {"bias": 2.5, "greenlist_ratio": 0.25}
SYNTH_ID: dict[str, Any] = {
    "ngram_len": 5,
    "keys": [654, 400, 836, 123, 340, 443, 597, 160, 57, 29],
}
TEXTS, NEW_TOKENS = 8, 48
# Ways to draft: none, n-grams, a model that pushes ahead and one that is waited for, under both
# rules.
WAYS: dict[str, dict[str, Any]] = {
    "lookup, rejection": {"prompt_lookup_num_tokens": 4, "sampling_rule": "rejection"},
    "lookup, coupled": {"prompt_lookup_num_tokens": 4, "sampling_rule": "coupled"},
    "model, rejection": {"num_assistant_tokens": 4, "sampling_rule": "rejection"},
    "model, coupled": {"num_assistant_tokens": 4, "sampling_rule": "coupled"},
    "as foredraft chooses": {},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[AsyncClient]:
    async with (
        draft_service(
            rows_of(bundled("draft").module, TEXTS, spare=160), bundled("draft")
        ) as draft,
        target_service(
            rows_of(bundled("target").module, TEXTS, spare=16),
            bundled("target"),
            draft.address,
        ) as target,
        AsyncClient(target.address, timeout=300) as client,
    ):
        yield client


async def _sampled(client: AsyncClient, seed: int, **fields: Any) -> list[Result]:
    options: dict[str, Any] = {
        "do_sample": True,
        "top_k": 0,
        "eos_token_id": [],
        "max_new_tokens": NEW_TOKENS,
    }
    found: list[Result] = await client.generate(
        "def main(", num_return_sequences=TEXTS, seed=seed, **options, **fields
    )
    return found


async def _statistic(client: AsyncClient, texts: list[Result], mark: Any) -> list[float]:
    found = await client.detect_watermark([list(text.token_ids) for text in texts], mark)
    shown = [one.green_fraction if one.mean_score is None else one.mean_score for one in found]
    return [value for value in shown if value is not None]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mark", [GREEN, SYNTH_ID], ids=["green lists", "SynthID"])
async def test_assisted_text_is_marked_as_plain_text_is(
    client: AsyncClient, mark: dict[str, Any]
) -> None:
    unmarked = await _statistic(client, await _sampled(client, 1, num_assistant_tokens=0), mark)
    plain = await _statistic(
        client, await _sampled(client, 1, num_assistant_tokens=0, watermarking_config=mark), mark
    )
    spread = statistics.stdev([*plain]) / TEXTS**0.5
    assert statistics.mean(plain) > statistics.mean(unmarked) + 6 * spread, (
        "it tells marked text from other text"
    )
    drafted = 0
    for seed, (way, fields) in enumerate(WAYS.items(), 2):
        texts = await _sampled(client, seed, watermarking_config=mark, **fields)
        drafted += sum(text.stats.accepted for text in texts)
        found = await _statistic(client, texts, mark)
        noise = (spread**2 + statistics.variance(found) / TEXTS) ** 0.5
        assert abs(statistics.mean(found) - statistics.mean(plain)) < 5 * noise, way
    assert drafted > 5 * TEXTS


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mark", [GREEN, SYNTH_ID], ids=["green lists", "SynthID"])
async def test_a_seed_gives_the_same_marked_text_with_any_draft(
    client: AsyncClient, mark: dict[str, Any]
) -> None:
    texts = [
        [text.token_ids for text in await _sampled(client, 7, watermarking_config=mark, **fields)]
        for fields in ({"num_assistant_tokens": 0}, {"num_assistant_tokens": 5}, {})
    ]
    assert all(other == texts[0] for other in texts[1:])


@pytest.mark.parametrize(
    "fields", [{}, {"seeding_scheme": "selfhash", "context_width": 2}], ids=["left", "self"]
)
async def test_greedy_marked_text_is_that_of_transformers(fields: dict[str, Any]) -> None:
    model, prompt = loaded(random_model("llama"), "llama"), [5, 9, 300, 5, 9]
    config = WatermarkingConfig(bias=8.0, **fields)
    ids = torch.tensor([prompt])
    want = (
        stock(random_model("llama"))
        .generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            watermarking_config=config,
            max_new_tokens=24,
            do_sample=False,
        )[0, 5:]
        .tolist()
    )
    async with (
        draft_service(rows_of(random_model("llama")), model) as draft,
        target_service(rows_of(model.module, spare=16), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        ways: list[dict[str, Any]] = [
            {"num_assistant_tokens": 0},
            {"num_assistant_tokens": 3},
            {"prompt_lookup_num_tokens": 3},
            {},
        ]
        for drafted in ways:
            got = await client.generate(
                prompt, watermarking_config=config, max_new_tokens=24, **drafted
            )
            assert list(got.token_ids) == want
        # A draft equal to the target has the same marks, and so is accepted.
        got = await client.generate(
            prompt,
            watermarking_config=config,
            num_assistant_tokens=3,
            assistant_confidence_threshold=0.0,
        )
        assert got.stats.acceptance_rate > 0.9


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_marked_or_told(client: AsyncClient) -> None:
    marks: list[Any] = [
        {"greenlist_ratio": 2.0},
        {"seeding_scheme": "rightash"},
        {"ngram_len": 5, "keys": []},
        {"keys": [1]},
        {"ngram_len": 99, "keys": [1]},
        {"vocabulary_size": 10},
        {"green": 1},
        {"ngram_len": 3, "keys": [1], "sampling_table_size": 2**30},
        3,
    ]
    for mark in marks:
        with pytest.raises(InvalidRequestError, match="watermarking_config") as raised:
            await client.generate("a", watermarking_config=mark)
        assert raised.value.fields == ("watermarking_config",)
    with pytest.raises(InvalidRequestError) as raised:
        await client.detect_watermark("some text")
    assert raised.value.fields == ("watermarking_config",)
    with pytest.raises(InvalidRequestError) as raised:
        await client.detect_watermark([5], GREEN)
    assert raised.value.fields == ("inputs",)
    config = SynthIDTextWatermarkingConfig(**SYNTH_ID)
    assert (
        await client.detect_watermark("def main(argv):\n    return argv", config)
    ).num_tokens_scored > 0
