"""A call whose target is lost in the middle goes on at another, and nothing is lost or doubled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from foredraft import AsyncClient, InvalidRequestError, Result, UnavailableError
from tests.fakes import TableRows, random_table, table_model
from tests.faults.lossy_target import LossyTarget, lossy
from tests.loopback import target_service
from tests.models import bundled, rows_of

VOCAB = 10
PROMPT = [1, 2, 3, 1, 2]
SAMPLED: dict[str, Any] = {"do_sample": True, "top_k": 0, "seed": 11}
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": SAMPLED,
    "unseeded, whose seed the service draws": {"do_sample": True, "top_k": 0},
    "rejection": {**SAMPLED, "sampling_rule": "rejection"},
    "n-grams": {**SAMPLED, "prompt_lookup_num_tokens": 3},
    "penalties": {**SAMPLED, "repetition_penalty": 1.3, "no_repeat_ngram_size": 4},
    "minimum": {**SAMPLED, "min_new_tokens": 18, "eos_token_id": [3]},
    "end": {**SAMPLED, "eos_token_id": [3]},
    "stop string": {**SAMPLED, "stop_strings": ["cd", "ab", "fg"]},
    "guidance": {**SAMPLED, "guidance_scale": 1.5, "negative_prompt": [4, 5]},
    "watermark": {**SAMPLED, "watermarking_config": {"greenlist_ratio": 0.5, "bias": 2.0}},
    "scores": {"output_scores": True, "output_logits": True, "logprobs": 2},
    "first token": {"forced_bos_token_id": 4, "inputs": [5]},
    "earlier tokens": {**SAMPLED, "generated_ids": [1, 2]},
    "several": {**SAMPLED, "num_return_sequences": 3, "eos_token_id": [3]},
    "batch": {**SAMPLED, "inputs": [[1, 2, 3], [4, 5]], "num_return_sequences": 2},
}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foredraft._channel._FIRST_PAUSE_S", 0.001)


@asynccontextmanager
async def _services(**settings: Any) -> AsyncIterator[tuple[AsyncClient, LossyTarget]]:
    rows, model = TableRows(random_table(VOCAB, 3)), table_model(VOCAB)
    async with (
        target_service(rows, model, **settings) as target,
        lossy(target.address) as (address, losses),
        AsyncClient(address) as client,
    ):
        yield client, losses


@pytest.mark.parametrize("fallback", ["none", "ngram"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_goes_on_wherever_it_is_lost(name: str, fallback: str) -> None:
    fields: dict[str, Any] = {"inputs": PROMPT, "max_new_tokens": 24, "resume": True, **CALLS[name]}
    async with _services(fallback=fallback) as (client, target):
        whole = await client.generate(**fields)
        if name.startswith("unseeded"):
            fields |= {"seed": whole.stats.seed, "sampling_rule": "rejection"}
        messages = 0
        while True:
            target.losses, target.requests = [messages, 3], []
            chunks = []
            async with client.stream(**fields) as stream:
                async for chunk in stream:
                    chunks.append(chunk)
            if len(target.requests) == 1:
                break
            # The rounds of lookups depend on the time of steps, unless their length is fixed.
            _compare(whole, stream.result, rounds=fallback == "none")
            assert [c.token_ids for c in chunks if c.sequence_index == 0 and c.token_ids]
            messages += 1
        assert messages > 2, "a message for each round"


def _compare(whole: Any, resumed: Any, *, rounds: bool = False) -> None:
    for one, other in zip(
        *(r if isinstance(r, list) else [r] for r in (whole, resumed)), strict=True
    ):
        assert _said(other) == _said(one)
        if not rounds:
            continue
        assert other.stats.rounds == one.stats.rounds
        assert other.stats.proposed == one.stats.proposed
        assert other.stats.accepted == one.stats.accepted
        assert other.stats.acceptance_histogram == one.stats.acceptance_histogram


def _said(result: Result) -> tuple[Any, ...]:
    rows = [[list(row.values) for row in rows] for rows in (result.scores, result.logits)]
    said = (result.text, result.token_ids, result.finish_reason, result.prompt_tokens)
    seed = result.stats.seed if result.stats.sampling_rule != "greedy" else None
    return (*said, result.sequence_index, seed, rows, len(result.logprobs))


async def test_a_healed_prompt_is_not_healed_again() -> None:
    model = bundled("target")
    fields: dict[str, Any] = {"max_new_tokens": 12, "token_healing": True, "resume": True}
    async with (
        target_service(rows_of(model.module), model) as target,
        lossy(target.address) as (address, losses),
        AsyncClient(address) as client,
    ):
        whole = await client.generate("def main(arg", **fields)
        for messages in (1, 2, 5):
            losses.losses = [messages]
            _compare(whole, await client.generate("def main(arg", **fields))


async def test_a_search_begins_again_and_never_goes_on() -> None:
    model = bundled("target")
    async with (
        target_service(rows_of(model.module), model) as real,
        lossy(real.address) as (address, target),
        AsyncClient(address) as client,
    ):
        for search in ({"num_beams": 3}, {"penalty_alpha": 0.6, "top_k": 3}):
            fields: dict[str, Any] = {"max_new_tokens": 8, **search}
            whole = await client.generate(PROMPT, **fields)
            target.losses = [1]  # it was admitted, and nothing of it came
            again = await client.generate(PROMPT, **fields, resume=True)
            assert again.token_ids == whole.token_ids
            target.losses = [2]
            with pytest.raises(UnavailableError, match="a search cannot go on") as raised:
                await client.generate(PROMPT, **fields, resume=True)
            assert raised.value.partial[0].token_ids


async def test_criteria_and_streamers_see_every_token_once() -> None:
    seen: list[list[int]] = []
    streamed: list[int] = []

    class Streamer:
        def put(self, value: Any) -> None:
            streamed.extend(value.flatten().tolist())

        def end(self) -> None:
            pass

    def sees(input_ids: Any, _: Any) -> bool:
        seen.append(input_ids[0].tolist())
        return len(seen) == 9

    async with _services() as (client, target):
        whole = await client.generate(PROMPT, max_new_tokens=9)
        target.losses = [1, 4, 3]
        fields: dict[str, Any] = {"stopping_criteria": sees, "streamer": Streamer()}
        result = await client.generate(PROMPT, max_new_tokens=40, resume=True, **fields)
    assert result.token_ids == whole.token_ids
    assert result.finish_reason == "stopping_criteria"
    assert streamed == [*PROMPT, *whole.token_ids]
    assert [len(ids) for ids in seen] == list(range(6, 15))


async def test_attempts_count_from_the_last_token_on() -> None:
    async with _services() as (client, target):
        whole = await client.generate(PROMPT, max_new_tokens=24)
        target.losses = [2] * 12
        assert (await client.generate(PROMPT, max_new_tokens=24, resume=True)).text == whole.text
        target.losses = [4, 0, 0, 0]
        with pytest.raises(UnavailableError) as raised:
            await client.generate(PROMPT, max_new_tokens=24, resume=True)
        assert raised.value.partial[0].token_ids == whole.token_ids[:3]


async def test_the_time_limit_is_that_of_the_whole_call() -> None:
    async with _services() as (client, target):
        target.losses = [3]
        await client.generate(PROMPT, max_new_tokens=24, max_time=50.0, resume=True)
        assert 0 < target.requests[1].config.max_time < 50.0


async def test_only_a_call_that_asks_for_it_goes_on() -> None:
    async with _services() as (client, target):
        target.losses = [3]
        with pytest.raises(UnavailableError, match="Socket closed"):
            await client.generate(PROMPT, max_new_tokens=24)
        with pytest.raises(InvalidRequestError, match="resume"):
            await client.generate(PROMPT, resume="yes")  # type: ignore[call-overload]
