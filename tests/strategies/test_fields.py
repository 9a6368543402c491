"""Every other field does what it does in transformers: texts, scores and logits are compared."""

import copy
from typing import Any

import pytest
import torch
import transformers

from foredraft import AsyncClient, GenerationConfig, InvalidRequestError
from foredraft_serving.worker_pool import WorkerPool
from target_service.request.token_healing import TokenHealing
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.models import bundled, loaded, random_model, rows_of, stock

PROMPT = [5, 9, 300, 5, 9, 17, 5, 9]
EOS = list(range(0, 4096, 16))
NEW_TOKENS = 24


def _transformers(**fields: Any) -> Any:
    ids = torch.tensor([PROMPT])
    options: dict[str, Any] = {
        "max_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "pad_token_id": 4095,
    } | fields
    if "max_length" in fields:
        del options["max_new_tokens"]
    model = stock(random_model("llama"))
    return model.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True, **options
    )


GREEDY: list[dict[str, Any]] = [
    {"exponential_decay_length_penalty": (3, 1.5), "eos_token_id": EOS},
    {"exponential_decay_length_penalty": (0, 1.02), "eos_token_id": [7, 9]},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"bad_words_ids": [[5], [9, 17]], "sequence_bias": {(77,): 3.0, (5, 9): -6.0}},
    {"min_new_tokens": 9, "eos_token_id": EOS},
    {"min_length": 20, "eos_token_id": EOS},
    {"max_length": 20},
    {"forced_eos_token_id": 3, "eos_token_id": 3},
    {"suppress_tokens": list(range(0, 4096, 2))},
    {"begin_suppress_tokens": list(range(0, 4096, 3))},
    {"remove_invalid_values": True, "renormalize_logits": True},
    {"use_cache": True, "return_dict_in_generate": False, "early_stopping": False, "num_beams": 1},
    {"token_healing": False, "guidance_scale": 1.0, "penalty_alpha": 0.0, "num_beam_groups": 1},
]
_ONLY_OURS = {"return_dict_in_generate", "penalty_alpha", "num_beam_groups", "guidance_scale"}


@pytest.mark.parametrize("fields", GREEDY, ids=lambda fields: "+".join(fields))
async def test_greedy_texts_scores_and_logits(fields: dict[str, Any]) -> None:
    theirs = {name: value for name, value in fields.items() if name not in _ONLY_OURS}
    want = _transformers(output_scores=True, output_logits=True, **theirs)
    model = loaded(random_model("llama"), "llama")
    async with (
        draft_service(rows_of(random_model("llama")), model) as draft,
        target_service(rows_of(model.module), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        options: dict[str, Any] = {} if "max_length" in fields else {"max_new_tokens": NEW_TOKENS}
        for k in (0, 4):
            got = await client.generate(
                PROMPT,
                num_assistant_tokens=k,
                output_scores=True,
                output_logits=True,
                **options,
                **fields,
            )
            assert list(got.token_ids) == want.sequences[0, len(PROMPT) :].tolist()
            assert len(got.scores) == len(got.logits) == len(got.token_ids)
            for ours, wanted in ((got.scores, want.scores), (got.logits, want.logits)):
                rows = torch.tensor([row.dense(4096) for row in ours])
                torch.testing.assert_close(rows, torch.cat(wanted).float(), atol=2e-3, rtol=1e-3)


async def test_scores_of_sampled_texts_are_those_after_the_warpers() -> None:
    fields: dict[str, Any] = {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 12,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
    }
    model = loaded(random_model("llama"), "llama")
    config = transformers.GenerationConfig(**fields, max_length=100, eos_token_id=0)
    stocked: Any = stock(random_model("llama"))
    stocked._prepare_special_tokens(config, device="cpu")
    chain = stocked._get_logits_processor(config, input_ids_seq_length=len(PROMPT), device="cpu")
    async with (
        target_service(rows_of(model.module), model) as target,
        AsyncClient(target.address) as client,
    ):
        for rule in ("rejection", "coupled"):
            got = await client.generate(
                PROMPT, max_new_tokens=8, sampling_rule=rule, output_scores=True, **fields
            )
            for at, (token, row) in enumerate(zip(got.token_ids, got.scores, strict=True)):
                ids = torch.tensor([[*PROMPT, *got.token_ids[:at]]])
                wanted = chain(ids, stocked(ids).logits[:, -1].detach().float())[0]
                torch.testing.assert_close(
                    torch.tensor(row.dense(4096)), wanted, atol=2e-3, rtol=1e-3
                )
                assert token in row.ids
                assert len(row.values) <= 12
            assert not got.logits


async def test_rows_are_sent_in_messages_that_a_client_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "target_service.output.stream._CHUNK_BYTES", 40_000
    )  # two rows of this vocabulary
    model = loaded(random_model("llama"), "llama")
    async with (
        target_service(rows_of(model.module), model) as target,
        AsyncClient(target.address) as client,
    ):
        fields: dict[str, Any] = {
            "max_new_tokens": 30,
            "prompt_lookup_num_tokens": 8,
            "logprobs": 1,
        }
        whole = await client.generate(PROMPT, **fields)
        pieces, text = 0, ""
        async with client.stream(PROMPT, output_logits=True, **fields) as stream:
            async for chunk in stream:
                assert len(chunk.logits) == len(chunk.token_ids) <= 2
                starts = [*chunk.text_offsets, len(chunk.text)]
                assert starts == sorted(starts)
                pieces, text = pieces + 1, text + chunk.text
    assert pieces >= 15
    assert stream.result.token_ids == whole.token_ids
    assert stream.result.text == whole.text == text
    assert stream.result.logprobs == whole.logprobs
    assert stream.result.finish_reason == "length"


async def test_healing_finds_tokens_that_begin_with_a_space() -> None:
    """transformers looks for the decoded text among the tokens' forms, and finds something else."""
    model = bundled("target")
    tokenizer = model.tokenizer
    async with target_service(rows_of(copy.deepcopy(model.module)), model) as target:
        healing, pool = TokenHealing(tokenizer, target.engine), WorkerPool("planning", 1, 1)
        for text in ("import o", "def main(sel", "x = re.compi"):
            ids = tokenizer(text)["input_ids"]
            healed = await healing.heal(pool, ids, "")
            assert healed[:-1] == tuple(ids[:-1])
            assert tokenizer.decode(healed).startswith(text)
        assert await healing.heal(pool, ids[:1], "") == tuple(ids[:1])


@pytest.mark.parametrize("end", ["def ma", "    return sel", "x = re.compi", "for i in ran"])
async def test_token_healing(end: str, prompts: list[str]) -> None:
    model = bundled("target")
    module: Any = stock(copy.deepcopy(model.module))
    tokenizer = model.tokenizer
    async with (
        target_service(rows_of(copy.deepcopy(model.module)), model) as target,
        AsyncClient(target.address) as client,
    ):
        for prompt in (prompts[0] + end, prompts[3][:80] + end):
            healed = module.heal_tokens(
                tokenizer(prompt, return_tensors="pt")["input_ids"], tokenizer
            )
            want = module.generate(
                healed, attention_mask=torch.ones_like(healed), max_new_tokens=12, do_sample=False
            )
            got = await client.generate(prompt, token_healing=True, max_new_tokens=12)
            assert list(got.token_ids) == want[0, healed.shape[1] :].tolist()
            assert got.prompt_tokens == healed.shape[1]
        with pytest.raises(InvalidRequestError) as raised:
            await client.generate(end, token_healing=True, generated_ids=[5])
        assert set(raised.value.fields) == {"token_healing", "generated_ids"}
        assert (await client.generate(["a", end], token_healing=True, max_new_tokens=3))[1].text


async def test_the_heuristic_goes_on_from_call_to_call() -> None:
    """transformers keeps the heuristic on its assistant; the transient one begins anew in every
    call.
    """
    table = random_table(10, 4)
    async with (
        draft_service(TableRows(table), table_model(10), ngram="off") as draft,
        target_service(TableRows(table), table_model(10), draft.address, outcomes=0) as target,
        AsyncClient(target.address, metadata={"authorization": "Bearer x"}) as client,
    ):
        longest = {}
        for schedule in ("heuristic", "heuristic_transient"):
            fields: dict[str, Any] = {
                "num_assistant_tokens": 3,
                "num_assistant_tokens_schedule": schedule,
                "max_new_tokens": 25,
            }
            fields |= {"assistant_confidence_threshold": 0.0}
            results = [await client.generate([1, 2, 3], **fields) for _ in range(2)]
            longest[schedule] = [len(r.stats.acceptance_histogram) - 1 for r in results]
    # 3, 5, 7 tokens and the target's own each make 18; then what is left.
    assert longest["heuristic_transient"][0] == longest["heuristic_transient"][1] == 7
    assert longest["heuristic"][1] > longest["heuristic"][0] == 7


async def test_what_is_refused_by_name() -> None:
    off: dict[str, Any] = {"assistant_lookbehind": 10}
    refused: dict[str, Any] = {
        "assistant_early_exit": 2,
        "assistant_ensemble_weight": 0.5,
        "assistant_lookbehind": 5,
        "target_lookbehind": 5,
        "use_cache": False,
        "cache_implementation": "static",
    }
    config = GenerationConfig(exponential_decay_length_penalty=(3, 1.2), eos_token_id=[])
    rows, model = TableRows(random_table(10, 4)), table_model(10)
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        for name, value in refused.items():
            with pytest.raises(InvalidRequestError, match=name) as raised:
                await client.generate([1, 2], **{name: value})
            assert raised.value.fields == (name,)
        with pytest.raises(InvalidRequestError) as raised:
            await client.generate([1, 2], config)
        assert set(raised.value.fields) == {"exponential_decay_length_penalty", "eos_token_id"}
        assert (await client.generate([1, 2], **off)).token_ids  # transformers' default
