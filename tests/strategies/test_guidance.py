"""Guidance is transformers' own, with a negative prompt or without, whatever drafts."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from foredraft import AsyncClient, InvalidRequestError
from tests.exactness.laws import LUCK, p_value
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.models import bundled, loaded, random_model, rows_of, stock
from tests.strategies.laws import guided_law, texts_of

NEW_TOKENS = 40
NEGATIVE = [44, 7, 300, 2, 2, 19]
DRAFTED: list[dict[str, Any]] = [
    {"num_assistant_tokens": 0},
    {"num_assistant_tokens": 4},
    {"prompt_lookup_num_tokens": 3},
    {},
]


def _reference(
    name: str, prompt: Sequence[int], scale: float, negative: Sequence[int] | None
) -> list[int]:
    module = bundled("target").module if name == "target" else random_model(name)
    ids = torch.tensor([prompt])
    away = None if negative is None else torch.tensor([negative])
    out = stock(module).generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        guidance_scale=scale,
        negative_prompt_ids=away,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
    )
    ids_after: list[int] = out[0, len(prompt) :].tolist()
    return ids_after


@pytest.mark.parametrize("name", ["llama", "gpt2", "target"])
@pytest.mark.parametrize("negative", [None, NEGATIVE], ids=["none", "negative"])
async def test_greedy_texts(name: str, negative: list[int] | None) -> None:
    prompt = [5, 9, 300, 5, 9, 17, 5, 9]
    model = bundled("target") if name == "target" else loaded(random_model(name), name)
    want = _reference(name, prompt, 1.7, negative)
    draft = bundled("draft")
    async with (
        draft_service(rows_of(copy.deepcopy(draft.module)), draft) as drafting,
        target_service(
            rows_of(copy.deepcopy(model.module), spare=16), model, drafting.address
        ) as target,
        AsyncClient(target.address) as client,
    ):
        for drafted in DRAFTED:
            fields: dict[str, Any] = {
                "guidance_scale": 1.7,
                "max_new_tokens": NEW_TOKENS,
                **drafted,
            }
            got = await client.generate(prompt, negative_prompt=negative, **fields)
            assert list(got.token_ids) == want
        away = [negative, prompt] if negative else None
        several = await client.generate([prompt, prompt], negative_prompt_ids=away, **fields)
        assert list(several[0].token_ids) == want
        assert target.engine.pool.in_use == 0


@pytest.mark.parametrize("fields", [{}, {"sampling_rule": "coupled"}], ids=["rejection", "coupled"])
async def test_sampled_texts_have_the_guided_law(fields: dict[str, Any]) -> None:
    vocab, length, prompt, away = 4, 3, [1, 2, 3], [0, 1]
    table, other = random_table(vocab, 1), random_table(vocab, 2)
    law = guided_law(TableRows(table), prompt, away, 1.6, length)
    async with (
        draft_service(TableRows(other), table_model(vocab), ngram="off") as draft,
        target_service(TableRows(table), table_model(vocab), draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        counts = await texts_of(
            client,
            prompt,
            1000,
            negative_prompt=away,
            guidance_scale=1.6,
            max_new_tokens=length,
            **fields,
        )
    assert p_value(counts, law) > LUCK


async def test_log_probabilities_are_the_models_own() -> None:
    model = bundled("target")
    rows = rows_of(copy.deepcopy(model.module))
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        guided = await client.generate([5, 9, 17], guidance_scale=2.0, max_new_tokens=8, logprobs=0)
        ids = [5, 9, 17, *guided.token_ids]
        own = stock(copy.deepcopy(model.module))(torch.tensor([ids])).logits[0].log_softmax(-1)
    for at, (token, entry) in enumerate(zip(guided.token_ids, guided.logprobs, strict=True)):
        assert entry.logprob == pytest.approx(own[2 + at, token].item(), abs=1e-3)


async def test_what_contradicts_it() -> None:
    table = random_table(10, 4)
    async with (
        target_service(TableRows(table, count=4), table_model(10)) as target,
        target_service(TableRows(table, count=1), table_model(10)) as small,
        AsyncClient(target.address) as client,
        AsyncClient(small.address) as alone,
    ):
        cases: list[tuple[AsyncClient, dict[str, Any], set[str]]] = [
            (client, {"negative_prompt": [1]}, {"negative_prompt", "guidance_scale"}),
            (
                client,
                {"negative_prompt": [[1], [2]], "guidance_scale": 2.0},
                {"negative_prompt", "prompts"},
            ),
            (client, {"num_beams": 2, "guidance_scale": 2.0}, {"guidance_scale", "num_beams"}),
            (
                client,
                {"guidance_scale": 2.0, "negative_prompt": [1] * 500},
                {"negative_prompt", "max_new_tokens"},
            ),
            (alone, {"guidance_scale": 2.0}, {"guidance_scale"}),
        ]
        for asked, fields, named in cases:
            with pytest.raises(InvalidRequestError) as raised:
                await asked.generate([1, 2, 3], max_new_tokens=20, **fields)
            assert set(raised.value.fields) == named
        assert (await client.generate([1, 2], guidance_scale=1.0, max_new_tokens=4)).token_ids
