"""What vLLM has beside transformers' fields: biases and penalties in every strategy, and the
log-probabilities of prompts.
"""

import copy
from typing import Any

import pytest
import torch

from foredraft import AsyncClient, GenerationConfig, InvalidRequestError, Result
from foredraft_engine.logits.processing import Scored, process
from foredraft_engine.logits.processors import Processors
from foredraft_engine.sampling import Rule, Sampling
from tests.loopback import draft_service, target_service
from tests.models import bundled, loaded, random_model, rows_of, stock
from tests.vllm_additions import Additions

PROMPT = [5, 9, 300, 5, 9, 17, 5, 9]


def test_scores_are_those_of_the_definition() -> None:
    """They are so at every position of a block, with what vLLM applies before and after."""
    sampling = Sampling(
        rule=Rule.GREEDY,
        prompt_length=3,
        frequency_penalty=0.5,
        presence_penalty=-0.25,
        logit_bias=((1, 1.5), (9, -2.0)),
    )
    tokens, count = [1, 2, 2, 7, 7, 1, 30, 7], 6
    logits = torch.randn(count, 32, generator=torch.Generator().manual_seed(2))
    got = process([Scored(Processors(sampling, torch.device("cpu")), tokens, count)], logits)
    for i in range(count):
        context = torch.tensor([tokens[: len(tokens) - count + 1 + i]])
        torch.testing.assert_close(got[i : i + 1], Additions(sampling)(context, logits[i : i + 1]))


@pytest.mark.parametrize(
    "search",
    [
        {"num_beams": 3},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    ],
    ids=lambda search: "+".join(search),
)
async def test_searches_apply_them(search: dict[str, Any]) -> None:
    """A bias makes one token likely everywhere, until the penalty for its number outweighs it."""
    model = loaded(random_model("llama"), "llama")
    async with (
        target_service(rows_of(model.module), model) as target,
        AsyncClient(target.address) as client,
    ):
        counts = []
        penalties: list[dict[str, Any]] = [
            {},
            {"presence_penalty": 2.0},
            {"frequency_penalty": 2.0},
        ]
        for penalty in penalties:
            result = await client.generate(
                PROMPT,
                GenerationConfig(max_new_tokens=40, eos_token_id=[], **search, **penalty),
                logit_bias={77: 30.0},
            )
            assert isinstance(result, Result)
            counts.append(result.token_ids.count(77))
    assert counts[:2] == [40, 40]
    assert 5 < counts[2] < 30


async def test_prompt_logprobs_are_those_of_the_model() -> None:
    model = bundled("target")
    module: Any = stock(copy.deepcopy(model.module))
    prompts = [list(range(40, 190)), [5, 9, 17], [7]]
    wanted = [module(torch.tensor([ids])).logits[0].float().log_softmax(-1) for ids in prompts]
    async with (
        draft_service(rows_of(bundled("draft").module), bundled("draft")) as draft,
        target_service(
            rows_of(copy.deepcopy(model.module)), model, draft.address, chunk_tokens=100
        ) as target,
        AsyncClient(target.address, metadata={"authorization": "Bearer a"}) as client,
    ):
        sampled: dict[str, Any] = {"do_sample": True, "seed": 4, "num_return_sequences": 2}
        plain = await client.generate(prompts, max_new_tokens=8)
        for fields in ({"num_assistant_tokens": 0}, {"num_assistant_tokens": 4}, sampled):
            found = await client.generate(prompts, max_new_tokens=8, prompt_logprobs=3, **fields)
            each = len(found) // len(prompts)
            for i, one in enumerate(found):
                ids, table = prompts[i // each], wanted[i // each]
                first, *told = one.prompt_logprobs
                assert first is None
                assert len(told) == len(ids) - 1
                for at, entry in enumerate(told):
                    assert entry is not None
                    assert entry.logprob == pytest.approx(table[at, ids[at + 1]].item(), abs=2e-3)
                    best = table[at].topk(3).values.tolist()
                    assert [p for _, p in entry.top] == pytest.approx(best, abs=2e-3)
            if each == 1:
                assert [r.token_ids for r in found] == [r.token_ids for r in plain]
                assert [r.cached_tokens for r in found] == [0, 0, 0], "the prompt is fed anew"
        again = await client.generate(prompts, max_new_tokens=1)
        assert again[0].cached_tokens == len(prompts[0]) - 1
        for fields in ({"num_beams": 2}, {"penalty_alpha": 0.6, "top_k": 4}, {"resume": True}):
            with pytest.raises(InvalidRequestError) as raised:
                await client.generate(PROMPT, prompt_logprobs=0, **fields)
            assert "prompt_logprobs" in raised.value.fields


async def test_prompt_logprobs_come_before_the_first_token() -> None:
    model = loaded(random_model("llama"), "llama")
    async with (
        target_service(rows_of(model.module), model) as target,
        AsyncClient(target.address) as client,
        client.stream(PROMPT, prompt_logprobs=0, max_new_tokens=4, stop_strings=["a"]) as stream,
    ):
        chunks = [chunk async for chunk in stream]
    assert all(chunk.token_ids for chunk in chunks), "no chunk of a stream is empty"
    assert len(stream.result.prompt_logprobs) == len(PROMPT)
