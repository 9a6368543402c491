"""Drafting ahead: a branch is what would have been drafted after the verdict, and its time of
arrival reveals nothing about its tokens.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from draft_service.session import _affordable
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Proposal
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.step import Step
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.speculation.draft_options import DraftOptions, TreeOptions
from foredraft_engine.speculation.preview import RANKS, Preview
from foredraft_engine.speculation.tree_job import DraftedAhead
from tests.fakes import TableRows, random_table
from tests.models import random_model, rows_of

VOCAB, K = 16, 4
TEXT = [3, 1, 4, 1, 5]
BASE = Sampling(prompt_length=3, max_length=99, seed=7)
LAWS = {
    "greedy": BASE,
    "rejection": replace(BASE, rule=Rule.REJECTION, temperature=0.8),
    "coupled": replace(BASE, rule=Rule.COUPLED, temperature=0.8),
    "penalties": replace(
        BASE, rule=Rule.REJECTION, repetition_penalty=1.5, no_repeat_ngram_size=2, top_k=9
    ),
}


def everything(preview: Preview, most: int) -> list[tuple[int, int]]:
    """Chooses two candidates after every number of accepted tokens. A `Chooser`."""
    return [(accepted, rank) for accepted in range(len(preview.candidates)) for rank in range(2)][
        :most
    ]


async def draft(
    engine: Engine, law: Sampling, tokens: Sequence[int], confidence: float = 0.0
) -> Proposal:
    async with engine.pool.lend(tokens, "") as row:
        async for _ in engine.prefill(row, tokens):
            pass
        processors = Processors(law, engine.device)
        options = DraftOptions(K, epoch=2, confidence=confidence, q_width=5)
        return await engine.draft(row, tokens, processors, options)


async def ahead(
    engine: Engine,
    law: Sampling,
    verified: Sequence[int],
    confidence: float = 0.0,
    alternatives: tuple[tuple[int, int], ...] = (),
) -> DraftedAhead:
    async with engine.pool.lend(TEXT, "") as row:
        async for _ in engine.prefill(row, TEXT):
            pass
        processors = Processors(law, engine.device)
        proposal = Proposal(tuple(verified), None, "model", alternatives)
        options = DraftOptions(K, epoch=2, confidence=confidence, q_width=5, choose=everything)
        return await engine.draft_ahead(row, TEXT, proposal, processors, TreeOptions(options, 32))


def same(one: Proposal, other: Proposal) -> None:
    assert one.ids == other.ids
    assert (one.q is None) == (other.q is None)
    if one.q and other.q:
        for a, b in zip(dense(one), dense(other), strict=True):
            assert np.allclose(a, b, atol=1e-4)


def dense(proposal: Proposal) -> list[np.ndarray]:
    """Returns the rows of q as dense rows, which do not depend on the order of entries."""
    assert proposal.q
    rows, begin = [], 0
    for count in proposal.q.counts:
        row = np.zeros(4096)
        row[proposal.q.ids[begin : begin + count]] = proposal.q.probabilities[begin : begin + count]
        rows.append(row)
        begin += count
    return rows


@pytest.mark.parametrize("confidence", [0.0, 0.35])
@pytest.mark.parametrize("name", LAWS)
async def test_a_branch_is_what_would_be_drafted_after_the_verdict(
    name: str, confidence: float
) -> None:
    engine = Engine(TableRows(random_table(VOCAB, 3)), VOCAB)
    law = LAWS[name]
    verified = (await draft(engine, law, TEXT)).ids
    found = await ahead(engine, law, verified, confidence)
    assert len(found.outcomes) == 2 * (K + 1)
    for outcome in found.outcomes:
        same(outcome.proposal, await draft(engine, law, [*TEXT, *outcome.path], confidence))
    engine.close()


@pytest.mark.parametrize("name", ["greedy", "coupled"])
@pytest.mark.parametrize("model", ["llama", "table"])
async def test_branches_after_an_alternative(name: str, model: str) -> None:
    rows = (
        TableRows(random_table(VOCAB, 3))
        if model == "table"
        else rows_of(random_model("llama"), 3, 64, 64)
    )
    engine, law = Engine(rows, VOCAB if model == "table" else 4096), LAWS[name]
    verified = (await draft(engine, law, TEXT)).ids
    alternatives = ((0, (verified[0] + 1) % VOCAB), (2, (verified[2] + 3) % VOCAB))
    found = await ahead(engine, law, verified, alternatives=alternatives)
    paths = [o.path for o in found.outcomes]
    for at, token in alternatives:
        stem = (*verified[:at], token)
        assert sum(path[:-1] == stem for path in paths) == 2, (
            "it is a place like any other to go on from"
        )
    for outcome in found.outcomes:
        same(outcome.proposal, await draft(engine, law, [*TEXT, *outcome.path]))
    engine.close()


@pytest.mark.parametrize("name", ["greedy", "coupled", "rejection"])
async def test_alternatives_are_the_likeliest_other_tokens(name: str) -> None:
    engine, law = Engine(TableRows(random_table(VOCAB, 3)), VOCAB), LAWS[name]
    async with engine.pool.lend(TEXT, "") as row:
        processors = Processors(law, engine.device)
        proposal = await engine.draft(
            row, TEXT, processors, DraftOptions(K, choose=everything, alternatives=5)
        )
    if name == "rejection":
        assert proposal.alternatives == (), "what is accepted by chance has none"
    else:
        assert [at for at, _ in proposal.alternatives] == [0, 0, 1, 1, 2]
        assert all(proposal.ids[at] != token for at, token in proposal.alternatives)
        assert proposal.first(1, 9).alternatives == proposal.alternatives[:2]
        assert proposal.first(K).alternatives == ()
    engine.close()


async def test_branches_of_a_model() -> None:
    law = LAWS["rejection"]
    engine = Engine(rows_of(random_model("llama"), 3, 64, 64), 4096)
    verified = (await draft(engine, law, TEXT)).ids
    one, other = await asyncio.gather(ahead(engine, law, verified), ahead(engine, law, verified))
    assert [o.path for o in one.outcomes] == [o.path for o in other.outcomes]
    for outcome in one.outcomes:
        same(outcome.proposal, await draft(engine, law, [*TEXT, *outcome.path]))
    engine.close()


@pytest.mark.parametrize("name", LAWS)
async def test_candidates_are_the_likely_next_tokens(name: str) -> None:
    table = random_table(VOCAB, 3)
    engine, law = Engine(TableRows(table), VOCAB), LAWS[name]
    verified = (await draft(engine, law, TEXT)).ids
    found = await ahead(engine, law, verified)
    for accepted, candidates in enumerate(found.preview.candidates):
        assert 0 < len(candidates) <= RANKS
        if accepted < K:
            assert verified[accepted] not in candidates, "it was rejected"
    if name in ("greedy", "coupled"):
        # The token after all proposed ones is certain.
        last = (await draft(engine, law, [*TEXT, *verified])).ids[0]
        assert found.preview.candidates[K][0] == last
    engine.close()


async def test_a_tree_takes_as_long_whatever_is_drawn() -> None:
    """Branches that end early, by EOS or for lack of confidence, are cut when all are complete."""
    law = replace(LAWS["rejection"], eos_token_id=tuple(range(1, VOCAB, 2)))
    for confidence, sampling in ((0.0, LAWS["rejection"]), (0.9, LAWS["rejection"]), (0.0, law)):
        steps: list[Step] = []
        engine = Engine(TableRows(random_table(VOCAB, 3)), VOCAB, callbacks=Callbacks(steps.append))
        found = await ahead(engine, sampling, (1, 2, 6), confidence)
        engine.close()
        grown = [step.tokens for step in steps[-K:]]
        assert len(steps) == 1 + 1 + K  # the prompt, the verified tokens, the branches
        assert len(set(grown)) == 1
        if confidence or sampling is law:
            assert any(len(o.proposal.ids) < K for o in found.outcomes)
            assert all(o.path[-1] % 2 == 0 for o in found.outcomes) or sampling is not law


@pytest.mark.parametrize(
    ("token_s", "wanted_s", "most"), [(0.0, 0.001, 32), (0.001, 0.3, 32), (0.001, 0.05, 9)]
)
def test_branches_that_come_in_time(token_s: float, wanted_s: float, most: int) -> None:
    """Wide steps that cost no more are used, those that would be late are narrowed.

    A step of unknown duration counts as one in time.
    """
    pace = StepTimes()
    assert _affordable(pace, 32, 5, wanted_s) == 32
    for tokens in (1, 8, 32):
        pace.observe(tokens, 1, 0.004 + token_s * tokens)
    assert _affordable(pace, 32, 5, 0.0) == 32
    assert _affordable(pace, 32, 5, wanted_s) == most


async def test_no_more_branches_than_there_are_places_for() -> None:
    rows = TableRows(random_table(VOCAB, 3))
    rows.spare = 3 * K + 1
    engine = Engine(rows, VOCAB)
    assert len((await ahead(engine, BASE, (1, 2, 6))).outcomes) == 3
    engine.close()
