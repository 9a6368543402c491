"""Beam search, over the wire, is transformers' own: texts, scores and order."""

import asyncio
import copy
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM

from foredraft import AsyncClient, InvalidRequestError
from foredraft_engine.model.loading import LoadedModel
from tests.fakes import SlowRows, random_table, table_model
from tests.loopback import LoopbackTarget, target_service
from tests.models import bundled, loaded, random_model, rows_of, stock
from tests.premises import begins_again, in_time

PROMPTS = ([5, 9, 300, 5, 9, 17], [7, 8], list(range(40, 75)))
NEW_TOKENS = 14
EOS = list(range(0, 4096, 16))


@cache
def _random(name: str) -> nn.Module:
    """Returns a copy of the model, since the service gives its own another attention."""
    return random_model(name)


def reference(
    name: str, prompt: Sequence[int], count: int, **fields: Any
) -> list[tuple[list[int], float]]:
    return _generated(_random(name), prompt, count, **fields)


def _generated(
    module: nn.Module, prompt: Sequence[int], count: int, **fields: Any
) -> list[tuple[list[int], float]]:
    """Returns transformers' texts without padding, and their scores."""
    stock(module)
    options: dict[str, Any] = {
        "max_new_tokens": NEW_TOKENS,
        "pad_token_id": 4095,
        "do_sample": False,
    } | fields
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


async def check(
    target: LoopbackTarget, model: LoadedModel, wanted: dict[str, Any], prompt: Sequence[int]
) -> None:
    count = wanted.get("num_return_sequences", 1)
    async with AsyncClient(target.address) as client:
        found = await client.generate(list(prompt), **{"max_new_tokens": NEW_TOKENS, **wanted})
    results = found if isinstance(found, list) else [found]
    fields: dict[str, Any] = {
        name: value for name, value in wanted.items() if name != "num_return_sequences"
    }
    for got, (ids, score) in zip(
        results, reference(model.name, prompt, count, **fields), strict=True
    ):
        assert list(got.token_ids) == ids
        assert got.score == pytest.approx(score, rel=1e-4)
        assert got.text == model.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
async def test_texts_and_scores(model: LoadedModel, early_stopping: Any) -> None:
    async with target_service(rows_of(model.module), model) as target:
        for prompt, num_beams, eos, penalty in product(
            PROMPTS[::2], (2, 5), ([0], EOS), (1.0, -0.5, 2.0)
        ):
            fields: dict[str, Any] = {
                "num_beams": num_beams,
                "eos_token_id": eos,
                "length_penalty": penalty,
            }
            await check(
                target,
                model,
                fields | {"early_stopping": early_stopping, "num_return_sequences": 2},
                prompt,
            )


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
        {"min_new_tokens": 6, "eos_token_id": EOS},
        {"bad_words_ids": [[100], [200, 300]], "suppress_tokens": list(range(500, 900))},
        {"renormalize_logits": True, "sequence_bias": {(77,): 4.0}},
        {"forced_eos_token_id": 3, "eos_token_id": 3},
        {"num_return_sequences": 4, "max_new_tokens": 1},
    ],
    ids=lambda fields: "+".join(fields),
)
async def test_with_processors_and_limits(fields: dict[str, Any]) -> None:
    model = loaded(random_model("llama"), "llama")
    async with target_service(rows_of(model.module), model) as target:
        for prompt in PROMPTS:
            await check(target, model, {"num_beams": 4, "num_return_sequences": 3} | fields, prompt)


async def test_with_a_row_for_each_beam() -> None:
    """Where rows have no branches, or one has too few places, beams go on in rows and copy what
    they share.
    """
    model = loaded(random_model("llama"), "llama")
    rows = rows_of(model.module, count=5)
    rows.branches = False
    async with target_service(rows, model) as target:
        for prompt in PROMPTS:
            await check(
                target,
                model,
                {"num_beams": 5, "num_return_sequences": 5, "eos_token_id": EOS},
                prompt,
            )
        assert target.engine.pool.in_use == 0
    small = rows_of(loaded(random_model("llama"), "llama").module, count=5, capacity=96)
    async with target_service(small, model) as target:
        await check(target, model, {"num_beams": 5, "max_new_tokens": 40}, PROMPTS[2])
        with pytest.raises(InvalidRequestError, match="do not fit") as raised:
            async with AsyncClient(target.address) as client:
                await client.generate(PROMPTS[2], num_beams=6, max_new_tokens=40)
        assert set(raised.value.fields) == {"num_beams", "max_new_tokens"}


async def test_a_model_with_separate_rows() -> None:
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=4096, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3
    )
    module = BloomForCausalLM(config).eval()
    want = [
        list(ids)
        for ids, _ in _generated(
            copy.deepcopy(module), PROMPTS[0], 3, num_beams=3, eos_token_id=EOS
        )
    ]
    model = loaded(module, "bloom")
    rows = rows_of(module, count=3)
    assert rows.layout == "separate"
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        found = await client.generate(
            PROMPTS[0],
            num_beams=3,
            num_return_sequences=3,
            eos_token_id=EOS,
            max_new_tokens=NEW_TOKENS,
        )
    assert [list(result.token_ids) for result in found] == want


async def test_stop_strings_end_a_beam(prompts: list[str]) -> None:
    model = bundled("target")
    rows = rows_of(copy.deepcopy(model.module))
    reasons = set()
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        for prompt in prompts[:4]:
            ids = model.tokenizer(prompt)["input_ids"]
            fields: dict[str, Any] = {
                "num_beams": 3,
                "stop_strings": ["self", "("],
                "max_new_tokens": 24,
            }
            want = _generated(model.module, ids, 3, tokenizer=model.tokenizer, **fields)
            found = await client.generate(prompt, num_return_sequences=3, **fields)
            assert [list(r.token_ids) for r in found] == [texts for texts, _ in want]
            reasons |= {r.finish_reason for r in found}
    assert "stop_string" in reasons


async def test_beams_stream_what_they_share(prompts: list[str]) -> None:
    """Tokens are streamed before the end, and none is taken back."""
    model = bundled("target")
    early = 0
    rows = rows_of(copy.deepcopy(model.module))
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        for prompt in prompts[:4]:
            seen: dict[int, list[int]] = {0: [], 1: []}
            async with client.stream(
                prompt, num_beams=3, num_return_sequences=2, max_new_tokens=32
            ) as stream:
                async for chunk in stream:
                    early += len(chunk.token_ids) if not chunk.finish_reason else 0
                    seen[chunk.sequence_index] += chunk.token_ids
            for result in stream.result:
                assert list(result.token_ids) == seen[result.sequence_index]
                assert result.stats.drafter == "none"
                assert result.stats.rounds == 32
            best, second = (result.score for result in stream.result)
            assert best is not None
            assert second is not None
            assert best >= second
    assert early > 2 * 32  # of 4 texts in 2 sequences with 32 tokens


@begins_again
async def test_out_of_time() -> None:
    model = table_model(10)
    rows = SlowRows(random_table(10, 4), 0.02)
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        result = await client.generate([1, 2, 3], num_beams=2, max_new_tokens=100, max_time=0.3)
    assert result.finish_reason == "max_time"
    assert len(result.token_ids) < 20
    in_time(len(result.token_ids) > 3, result.token_ids)


async def test_a_cancelled_search_frees_its_rows() -> None:
    rows = SlowRows(random_table(10, 4), 0.02, count=3)
    rows.branches = False
    async with (
        target_service(rows, table_model(10)) as target,
        AsyncClient(target.address) as client,
    ):
        async with client.stream([1, 2, 3], num_beams=3, max_new_tokens=100) as stream:
            async for _ in stream:
                assert target.engine.pool.in_use == 3
                break
        async with asyncio.timeout(60), target.engine.pool.lend_several([()] * 3, ""):
            pass  # all of them are free
