"""All strategies in one batch, streamed and not: each says what it says alone."""

import asyncio
from collections.abc import Sequence
from typing import Any

from foredraft import AsyncClient, Result
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of

NEW_TOKENS = 24
# Texts depend on seeds and on exact matches alone, and not on what a draft has in time.
EVERY: dict[str, dict[str, Any]] = {
    "greedy": {},
    "assisted": {"num_assistant_tokens": 5},
    "plain": {"num_assistant_tokens": 0},
    "prompt lookup": {"prompt_lookup_num_tokens": 4},
    "sampling": {"do_sample": True, "temperature": 0.8, "seed": 1, "num_return_sequences": 3},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "stop_strings": ["\n\n"]},
    "beam search": {"num_beams": 4, "num_return_sequences": 2, "early_stopping": True},
    "beam sampling": {"num_beams": 3, "do_sample": True, "seed": 2},
    "diverse beam search": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    "contrastive search": {"penalty_alpha": 0.6, "top_k": 4},
}


def _texts(found: Result | Sequence[Result]) -> list[tuple[int, ...]]:
    return [result.token_ids for result in (found if isinstance(found, Sequence) else [found])]


async def _streamed(
    client: AsyncClient, prompt: str, fields: dict[str, Any]
) -> list[tuple[int, ...]]:
    """Returns what the chunks hold, checked against the result."""
    seen: dict[int, list[int]] = {}
    text: dict[int, str] = {}
    async with client.stream(prompt, max_new_tokens=NEW_TOKENS, **fields) as stream:
        async for chunk in stream:
            seen.setdefault(chunk.sequence_index, []).extend(chunk.token_ids)
            text[chunk.sequence_index] = text.get(chunk.sequence_index, "") + chunk.text
    results = stream.result if isinstance(stream.result, list) else [stream.result]
    assert [r.token_ids for r in results] == [tuple(seen[r.sequence_index]) for r in results]
    assert [r.text for r in results] == [text[r.sequence_index] for r in results]
    return [result.token_ids for result in results]


async def test_each_says_what_it_says_alone(prompts: list[str]) -> None:
    async with (
        draft_service(rows_of(bundled("draft").module, 20), bundled("draft")) as draft,
        target_service(
            rows_of(bundled("target").module, 20, spare=16),
            bundled("target"),
            draft.address,
        ) as target,
        AsyncClient(target.address) as client,
    ):
        prompt = prompts[1]
        alone = {
            name: _texts(await client.generate(prompt, max_new_tokens=NEW_TOKENS, **fields))
            for name, fields in EVERY.items()
        }
        together = await asyncio.gather(
            *(
                client.generate(prompt, max_new_tokens=NEW_TOKENS, **fields)
                for fields in EVERY.values()
            )
        )
        streamed = await asyncio.gather(
            *(_streamed(client, prompt, fields) for fields in EVERY.values())
        )
        assert target.engine.pool.in_use == 0
    assert dict(zip(EVERY, map(_texts, together), strict=True)) == alone
    assert dict(zip(EVERY, streamed, strict=True)) == alone
    assert alone["greedy"] == alone["assisted"] == alone["plain"] == alone["prompt lookup"]
    steps = target.value("foredraft_step_tokens_count")
    tokens = target.value("foredraft_step_tokens_sum")
    assert tokens > 4 * steps, "they shared steps"
