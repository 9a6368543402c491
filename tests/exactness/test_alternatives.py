"""Alternatives change how fast a text comes, and never the text."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from foredraft import AsyncClient
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.rows import Rows
from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.speculation.verify_job import VerifyOptions
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.models import random_model, rows_of
from tests.premises import begins_again, in_time

PROMPT = [5, 9, 300, 5, 9, 17]
BASE = Sampling(prompt_length=len(PROMPT), max_length=400, seed=3)
LAWS = {
    "greedy": BASE,
    "coupled": replace(BASE, rule=Rule.COUPLED, temperature=0.9),
    "penalties": replace(BASE, repetition_penalty=1.3, no_repeat_ngram_size=3),
}
NEW_TOKENS, SPARE = 60, 12


def _rows(name: str) -> Rows:
    if name == "table":
        return TableRows(random_table(400, 1))
    return rows_of(random_model(name), 4, 400, SPARE)


async def _plain(engine: Engine, law: Sampling) -> list[int]:
    tokens, processors = list(PROMPT), Processors(law, engine.device)
    async with engine.pool.lend(tokens, "") as row:
        while len(tokens) < len(PROMPT) + NEW_TOKENS:
            tokens += (await engine.verify(row, tokens, NOTHING, processors)).ids
    return tokens


async def _assisted(
    engine: Engine, law: Sampling, text: Sequence[int], seed: int
) -> tuple[list[int], int]:
    """Decodes with proposals that are right up to some place, and with alternatives of which some
    are right.

    Returns the text, and the number of alternatives that were accepted.
    """
    tokens, processors, draw, beside = (
        list(PROMPT),
        Processors(law, engine.device),
        random.Random(seed),
        0,
    )
    async with engine.pool.lend(tokens, "") as row:
        while len(tokens) < len(PROMPT) + NEW_TOKENS - 8:
            coming = text[len(tokens) : len(tokens) + draw.randint(1, 6)]
            wrong = draw.randint(0, len(coming))
            ids = [*coming[:wrong], *(draw.randrange(2, 400) for _ in coming[wrong:])]
            places = [draw.randrange(len(ids)) for _ in range(draw.randint(0, SPARE))]
            others = {(at, draw.choice([coming[at], draw.randrange(2, 400)])) for at in places}
            proposal = Proposal(tuple(ids), None, "model", tuple(sorted(others)))
            verdict = await engine.verify(
                row, tokens, proposal, processors, VerifyOptions(logprobs=2)
            )
            tokens += verdict.ids
            assert len(verdict.logprobs) == len(verdict.ids)
            if law.rule is Rule.GREEDY and law.repetition_penalty == 1.0:
                assert [one.top[0][0] for one in verdict.logprobs] == list(verdict.ids)
            assert proposal.allows(verdict.ids[:-1])
            beside += verdict.used_alternative
    return tokens, beside


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "mistral", "table"])
async def test_the_text_is_the_targets_own(name: str, law: str) -> None:
    rows = _rows(name)
    assert rows.spare >= SPARE
    engine = Engine(rows, 400 if name == "table" else 4096)
    text = await _plain(engine, LAWS[law])
    rejection = replace(BASE, rule=Rule.REJECTION, temperature=0.8)
    # The texts run next to each other, and next to one that is verified by rejection sampling.
    neighbour = asyncio.create_task(_plain(engine, rejection))
    results = await asyncio.gather(*(_assisted(engine, LAWS[law], text, i) for i in range(3)))
    await neighbour
    for tokens, beside in results:
        assert tokens == text[: len(tokens)]
        assert beside > 2
    engine.close()


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "coupled"])
@begins_again
async def test_over_the_wire(sampled: bool) -> None:
    """Steps take the same time however wide they are, so that alternatives pay."""
    verified, stood, hits = await same_texts(sampled)
    assert stood <= verified
    in_time(0 < stood < verified and hits > 10, (verified, stood, hits))


async def same_texts(sampled: bool, timeout_s: float = 60.0) -> tuple[float, float, float]:
    """Compares texts with and without alternatives.

    Returns how many alternatives were verified, how many were accepted, and how often the outcome
    was foreseen.

    Args:
        timeout_s: the time for which the draft is waited for.
    """
    table = random_table(12, 2)
    model, poor = table_model(12), table + 1.5 * random_table(12, 7)
    fields: dict[str, Any] = {"max_new_tokens": 200}
    settings: dict[str, Any] = {"fallback": "none", "draft_timeout": timeout_s}
    if sampled:
        fields |= {"do_sample": True, "temperature": 0.9, "top_k": 0, "seed": 4}
    async with (
        draft_service(TableRows(poor), model, ngram="off") as draft,
        target_service(SlowRows(table, 0.015), model, draft.address, **settings) as target,
        target_service(
            SlowRows(table, 0.015), model, draft.address, **settings, alternatives=0
        ) as without,
        AsyncClient(target.address) as client,
        AsyncClient(without.address) as other,
    ):
        plain = await client.generate([1, 2, 3], **fields, num_assistant_tokens=0)
        for _ in range(2):
            assisted = await client.generate([1, 2, 3], **fields)
            assert assisted.token_ids == plain.token_ids
        assert (await other.generate([1, 2, 3], **fields)).token_ids == plain.token_ids
        assert without.value("foredraft_spec_decode_num_alternative_tokens_total") == 0
        return (
            target.value("foredraft_spec_decode_num_alternative_tokens_total"),
            target.value("foredraft_spec_decode_num_accepted_alternatives_total"),
            target.value("foredraft_outcome_hits_total", arrival="in_time"),
        )
