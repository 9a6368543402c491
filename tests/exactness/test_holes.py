"""The faults of transformers' assisted generation, and a draft that is equal to the target."""

from typing import Any

import pytest

from foredraft import AsyncClient
from foredraft_engine.model.rows import Rows
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.models import bundled, loaded, random_model, rows_of, stock

PROMPT = [1, 2, 3, 1, 2]


def _bundled_rows(kind: str) -> Rows:
    return rows_of(bundled(kind).module)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"do_sample": True, "temperature": 0.7},
        {"do_sample": True, "temperature": 0.7, "seed": 3},
    ],
    ids=["greedy", "rejection", "coupled"],
)
async def test_a_draft_equal_to_the_target_is_accepted(
    fields: dict[str, Any], prompts: list[str]
) -> None:
    """Processors are applied once, equally on both sides: acceptance is at least 0.98."""
    model = bundled("draft")
    async with (
        draft_service(_bundled_rows("draft"), model, ngram="off", q_width=0) as draft,
        target_service(_bundled_rows("draft"), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        results = [
            await client.generate(
                prompt,
                max_new_tokens=48,
                num_assistant_tokens=5,
                assistant_confidence_threshold=0.0,
                **fields,
            )
            for prompt in prompts[:6]
        ]
    proposed, accepted = (
        sum(getattr(r.stats, name) for r in results) for name in ("proposed", "accepted")
    )
    assert accepted >= 0.98 * proposed > 0


async def test_stop_strings_work_with_a_draft(prompts: list[str]) -> None:
    """transformers raises here (#48039).

    The token that completes the stop string is kept, as transformers keeps it.
    """
    target_model = bundled("target")
    model = target_model.module
    for prompt in prompts[:4]:
        inputs = target_model.tokenizer(prompt, return_tensors="pt")
        stock(model)
        want = model.generate(  # type: ignore[operator]
            **inputs,
            max_new_tokens=60,
            do_sample=False,
            stop_strings=["\n"],
            tokenizer=target_model.tokenizer,
        )[0, inputs["input_ids"].shape[1] :].tolist()
        async with (
            draft_service(_bundled_rows("draft"), bundled("draft")) as draft,
            target_service(_bundled_rows("target"), target_model, draft.address) as target,
            AsyncClient(target.address) as client,
        ):
            got = await client.generate(
                prompt, max_new_tokens=60, stop_strings="\n", num_assistant_tokens=8
            )
        assert list(got.token_ids) == want


async def test_a_stop_inside_an_accepted_block_ends_the_text() -> None:
    """transformers misses a stop that completes inside an accepted block, and streams past it."""
    vocab = 10
    model, table = table_model(vocab), random_table(vocab, 4)
    async with (
        draft_service(TableRows(table), model, ngram="off") as draft,
        target_service(TableRows(table), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        whole = await client.generate(PROMPT, max_new_tokens=40, num_assistant_tokens=0)
        for first in range(0, 12, 3):
            stop = whole.text[first : first + 2]
            end = whole.text.index(stop) + 2
            # The prompt's last letter may begin the stop string too.
            if ("bcdbc"[-1] + whole.text[0]) == stop:
                end = 1
            fields: dict[str, Any] = {
                "max_new_tokens": 40,
                "num_assistant_tokens": 7,
                "assistant_confidence_threshold": 0.0,
            }
            streamed = ""
            async with client.stream(PROMPT, stop_strings=[stop], **fields) as stream:
                async for chunk in stream:
                    streamed += chunk.text
            assert streamed == stream.result.text == whole.text[:end]
            assert stream.result.finish_reason == "stop_string"
            eos = whole.token_ids[first]
            cut = await client.generate(PROMPT, eos_token_id=[eos], **fields)
            assert cut.token_ids == whole.token_ids[: whole.token_ids.index(eos) + 1]
            assert cut.finish_reason == "eos_token"


async def test_draft_length_on_the_call_is_honoured() -> None:
    """transformers ignores num_assistant_tokens of the call (#40739)."""
    model = loaded(random_model("llama"), "llama")
    rows = [rows_of(random_model("llama")) for _ in range(2)]
    async with (
        draft_service(rows[0], model, ngram="off") as draft,
        target_service(rows[1], model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        for k in (0, 1, 2, 5):
            result = await client.generate(
                [9, 8, 7],
                max_new_tokens=24,
                num_assistant_tokens=k,
                assistant_confidence_threshold=0.0,
            )
            # The first proposal may be cut to the tokens that are left; none is longer than k.
            assert len(result.stats.acceptance_histogram) == k + 1
            assert result.stats.mean_acceptance_length == pytest.approx(k + 1, rel=0.2)
