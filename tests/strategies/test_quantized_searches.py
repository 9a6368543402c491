"""Searches over a quantized cache: a fork shares quantized groups, and scores are those of the text
read at once.
"""

import asyncio
from typing import Any

import pytest
import torch

from foredraft import AsyncClient
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.scheduling.engine import Engine
from tests.loopback import target_service
from tests.models import loaded, random_model, rows_of

PROMPT = list(range(40, 70))
CACHE: dict[str, Any] = {"backend": "quanto", "nbits": 4, "q_group_size": 16, "residual_length": 1}
QUANTIZED: dict[str, Any] = {
    "cache_implementation": "quantized",
    "cache_config": CACHE,
    "max_new_tokens": 24,
}


async def _score(engine: Engine, text: list[int]) -> float:
    """Returns the mean log-probability of what follows the prompt, read in one pass over a
    quantized row.
    """
    async with engine.pool.lend((), "", CacheSpec(**CACHE)) as row:
        logits = await engine.score(row, [*PROMPT, *text], len(text) + 1)
        log_probs = torch.as_tensor(logits).log_softmax(-1)[torch.arange(len(text)), text]
    return float(log_probs.mean())


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 4, "num_return_sequences": 4},
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": True, "top_k": 0, "seed": 1},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "eos_token_id": [1]},
    ],
    ids=["beams", "sampled", "diverse"],
)
async def test_scores_are_those_of_the_text_read_at_once(fields: dict[str, Any]) -> None:
    model = loaded(random_model("llama"), "llama")
    async with (
        target_service(rows_of(model.module, 6), model) as target,
        AsyncClient(target.address) as client,
    ):
        found = await client.generate(PROMPT, **QUANTIZED, **fields)
        for result in found if isinstance(found, list) else [found]:
            if "diversity_penalty" not in fields:  # which is part of the score
                assert result.score == pytest.approx(
                    await _score(target.engine, list(result.token_ids)), abs=2e-3
                )
        dense = await client.generate(PROMPT, max_new_tokens=24, **fields)
    assert [r.token_ids for r in _all(dense)] != [r.token_ids for r in _all(found)], (
        "it is no other cache"
    )


async def test_far_from_any_group_it_is_the_dense_search() -> None:
    model = loaded(random_model("llama"), "llama")
    near: dict[str, Any] = QUANTIZED | {"cache_config": {**CACHE, "residual_length": 100}}
    async with (
        target_service(rows_of(model.module, 6), model) as target,
        AsyncClient(target.address) as client,
    ):
        for fields in (
            {"num_beams": 3},
            {"penalty_alpha": 0.6, "top_k": 4},
            {"guidance_scale": 1.5, "negative_prompt": [5, 6]},
            {"num_return_sequences": 2, "do_sample": True, "seed": 1},
        ):
            dense = await client.generate(PROMPT, max_new_tokens=24, **fields)
            quantized = await client.generate(PROMPT, **near, **fields)
            assert [r.token_ids for r in _all(dense)] == [r.token_ids for r in _all(quantized)]


async def test_every_way_to_generate_runs_on_it() -> None:
    """Every strategy says the same alone and next to others."""
    model = loaded(random_model("llama"), "llama")
    ways: list[dict[str, Any]] = [
        {"penalty_alpha": 0.6, "top_k": 4},
        {"guidance_scale": 1.5, "negative_prompt": [5, 6]},
        {"prompt_lookup_num_tokens": 4},
        {"num_beams": 3},
        {"do_sample": True, "seed": 1, "num_return_sequences": 3},
    ]
    async with (
        target_service(rows_of(model.module, 12), model) as target,
        AsyncClient(target.address) as client,
    ):
        alone = [_all(await client.generate(PROMPT, **QUANTIZED, **fields)) for fields in ways]
        calls = [client.generate(PROMPT, **QUANTIZED, **fields) for fields in ways]
        together = [_all(found) for found in await _gathered(calls)]
    assert [[r.token_ids for r in one] for one in alone] == [
        [r.token_ids for r in one] for one in together
    ]


def _all(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


async def _gathered(calls: list[Any]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]
