"""Beam search, over the wire, is transformers' own: texts, scores and order."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from decoding.loading import LoadedModel
from foredraft import AsyncClient
from tests.loopback import LoopbackTarget, target_service
from tests.models import loaded, random_model, rows_of, stock

PROMPTS = ([5, 9, 300, 5, 9, 17], [7, 8], list(range(40, 75)))
NEW_TOKENS = 14
EOS = list(range(0, 4096, 16))


@cache
def _stock(name: str) -> nn.Module:
    """The model once more: the service's has other attention."""
    return stock(random_model(name))


def reference(name: str, prompt: Sequence[int], count: int, **fields: Any) -> list[tuple[list[int], float]]:
    """transformers' texts, without padding, and their scores."""
    module = _stock(name)
    options = {"max_new_tokens": NEW_TOKENS, "pad_token_id": 4095, "do_sample": False} | fields
    out = module.generate(  # type: ignore[operator]
        torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        num_return_sequences=count,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    texts = []
    for ids in out.sequences[:, len(prompt) :].tolist():
        while ids and ids[-1] == 4095:
            ids.pop()
        texts.append(ids)
    return list(zip(texts, out.sequences_scores.tolist(), strict=True))


@pytest.fixture(scope="module", params=["llama", "mistral", "gpt2"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return loaded(random_model(request.param), request.param)


async def check(target: LoopbackTarget, model: LoadedModel, wanted: dict[str, Any], prompt: Sequence[int]) -> None:
    count = wanted.get("num_return_sequences", 1)
    async with AsyncClient(target.address) as client:
        found = await client.generate(list(prompt), **{"max_new_tokens": NEW_TOKENS, **wanted})
    results = found if isinstance(found, list) else [found]
    fields = {name: value for name, value in wanted.items() if name != "num_return_sequences"}
    for got, (ids, score) in zip(results, reference(model.name, prompt, count, **fields), strict=True):
        assert list(got.token_ids) == ids
        assert got.score == pytest.approx(score, rel=1e-4)
        assert got.text == model.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
async def test_texts_and_scores(model: LoadedModel, early_stopping: Any) -> None:
    async with target_service(rows_of(model.module), model) as target:
        for prompt, num_beams, eos, penalty in product(PROMPTS, (2, 5), ([0], EOS), (1.0, -0.5, 2.0)):
            fields = {"num_beams": num_beams, "eos_token_id": eos, "length_penalty": penalty}
            await check(target, model, fields | {"early_stopping": early_stopping, "num_return_sequences": 2}, prompt)
