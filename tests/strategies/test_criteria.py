"""Stopping criteria inside accepted blocks, where transformers' assisted decoding misses them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch
from transformers import StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from foredraft import AsyncClient
from foredraft_engine.model.rows import Rows
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of, stock
from tests.premises import begins_again, in_time

ASSISTED: dict[str, Any] = {"num_assistant_tokens": 7, "assistant_confidence_threshold": 0.0}


class LastIs(StoppingCriteria):
    """A criterion that is met by a text that ends with these tokens."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = torch.tensor(tokens)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        n = len(self._tokens)
        return (
            (input_ids[:, -n:] == self._tokens).all(dim=1)
            if input_ids.shape[1] >= n
            else torch.tensor([False])
        )


def _rows(kind: str) -> Rows:
    return rows_of(bundled(kind).module)


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with (
        draft_service(_rows("draft"), bundled("draft")) as draft,
        target_service(_rows("target"), bundled("target"), draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        yield client


async def test_one_that_is_met_inside_an_accepted_block_ends_the_text() -> None:
    vocab, prompt = 10, [1, 2, 3, 1, 2]
    model, table = table_model(vocab), random_table(vocab, 4)
    async with (
        draft_service(TableRows(table), model, ngram="off") as draft,
        target_service(TableRows(table), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        whole = await client.generate(prompt, max_new_tokens=40, num_assistant_tokens=0)
        inside = 0
        for first in range(16):
            pair = (prompt[-1], *whole.token_ids)[first : first + 2]
            text = (prompt[-1], *whole.token_ids)
            end = next(i for i in range(1, len(text)) if text[i - 1 : i + 1] == pair)
            chunks = []
            async with client.stream(
                prompt, max_new_tokens=40, stopping_criteria=[LastIs(*pair)], **ASSISTED
            ) as stream:
                async for chunk in stream:
                    chunks.append(chunk)
            assert (
                stream.result.token_ids
                == whole.token_ids[:end]
                == sum((c.token_ids for c in chunks), ())
            )
            assert stream.result.text == whole.text[:end] == "".join(c.text for c in chunks)
            assert stream.result.finish_reason == "stopping_criteria"
            inside += 0 < chunks[-1].num_accepted == len(chunks[-1].token_ids) < 8
    assert inside >= 8, "most of them were met by a token that a draft had proposed"


async def test_the_text_is_that_of_transformers_without_assistance(
    client: AsyncClient, prompts: list[str]
) -> None:
    model: Any = stock(bundled("target").module)
    tokenizer = bundled("target").tokenizer
    for prompt in prompts[:4]:
        inputs = tokenizer(prompt, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        whole = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, length:].tolist()
        for criteria in (
            [LastIs(whole[11])],
            StoppingCriteriaList([LastIs(*whole[17:20]), LastIs(*whole[29:32])]),
            [StopStringCriteria(tokenizer, ["\n"])],
        ):
            fields: dict[str, Any] = {
                "max_new_tokens": 40,
                "stopping_criteria": StoppingCriteriaList(criteria),
            }
            want = model.generate(**inputs, do_sample=False, **fields)[0, length:].tolist()
            got = await client.generate(prompt, **fields, **ASSISTED)
            assert list(got.token_ids) == want
            assert got.text == tokenizer.decode(want, skip_special_tokens=True)


async def test_sampled_sequences_of_a_batch(client: AsyncClient, prompts: list[str]) -> None:
    """Each sequence is cut by itself: the texts are those without criteria, cut after their first
    newline token.
    """
    newline = bundled("target").tokenizer("\n")["input_ids"][-1]
    fields: dict[str, Any] = {
        "max_new_tokens": 40,
        "do_sample": True,
        "num_return_sequences": 2,
        "seed": 5,
        **ASSISTED,
    }
    whole = await client.generate(prompts[:3], **fields)
    cut = await client.generate(prompts[:3], stopping_criteria=LastIs(newline), **fields)
    assert len(cut) == 6
    ended = 0
    for all_of_it, result in zip(whole, cut, strict=True):
        end = all_of_it.token_ids.index(newline) + 1 if newline in all_of_it.token_ids else None
        assert result.token_ids == all_of_it.token_ids[:end]
        assert result.prompt_tokens == all_of_it.prompt_tokens
        if end is not None:
            assert result.finish_reason == "stopping_criteria"
            ended += 1
    assert ended


@begins_again
async def test_the_service_stops_at_once() -> None:
    vocab = 10
    model, table = table_model(vocab), random_table(vocab, 4)
    rows = SlowRows(table, 0.01)
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        result = await client.generate(
            [1, 2, 3], max_new_tokens=400, stopping_criteria=lambda ids, _: ids.shape[1] == 8
        )
        assert len(result.token_ids) == 5
        pool = target.engine.pool
        async with pool.lend([1], ""), pool.lend([2], ""), pool.lend([3], ""), pool.lend([4], ""):
            pass  # all four rows are free again
    in_time(len(rows.steps) < 50, len(rows.steps))
