"""A step belongs to its jobs one by one: what one of them does wrong fails that one alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from foredraft_engine.errors import (
    BrokenLogitsError,
    DeviceLostError,
    DeviceMemoryError,
    InvalidFieldError,
)
from foredraft_engine.feed import Feed
from foredraft_engine.job import Job, PassOutput
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.speculation.draft_options import DraftOptions, EarlyVerdict, TreeOptions
from foredraft_engine.speculation.verify_job import VerifyOptions
from tests.fakes import TableRows, random_table

VOCAB = 9
POISON = 7
"""The token after which a table has broken logits."""


class BrittleRows(TableRows):
    """A table that runs out of memory, fails at a token, or is lost."""

    def __init__(self, table: Tensor, most_tokens: int = 10**9) -> None:
        super().__init__(table, count=8)
        self.most_tokens, self.fails_at = most_tokens, -1
        self.failures = 0

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        ids = [i for feed in feeds for i in feed.ids]
        if len(ids) > self.most_tokens:
            self.failures += 1
            raise torch.OutOfMemoryError("tried to allocate too much")
        if self.fails_at in ids:
            self.failures += 1
            raise RuntimeError("a kernel failed")
        return super().forward(feeds, scored)


@pytest.fixture
async def rows() -> BrittleRows:
    return BrittleRows(random_table(VOCAB, 0))


@pytest.fixture
async def engine(rows: BrittleRows) -> AsyncIterator[Engine]:
    engine = Engine(rows, VOCAB, chunk_tokens=64)
    yield engine
    engine.close()


async def text_of(
    engine: Engine, prompt: list[int], sampling: Sampling, proposal: Proposal = NOTHING
) -> list[int]:
    """Generates a few tokens after a prompt."""
    processors = Processors(replace(sampling, prompt_length=len(prompt)), engine.device)
    tokens = list(prompt)
    async with engine.pool.lend(tokens, "") as row:
        async for _ in engine.prefill(row, tokens):
            pass
        while len(tokens) < len(prompt) + 6:
            verdict = await engine.verify(row, tokens, proposal, processors, VerifyOptions(1, True))
            tokens += verdict.ids
    return tokens


async def beside(
    engine: Engine, bad: Any, samplings: Sequence[Sampling]
) -> tuple[BaseException, list[list[int]]]:
    """Runs a bad sequence in the steps of good ones; returns its error and their texts."""
    good = [text_of(engine, [1, i], one) for i, one in enumerate(samplings)]
    first, *texts = await asyncio.gather(bad, *good, return_exceptions=True)
    assert isinstance(first, BaseException), f"the bad sequence made {first}"
    assert not [text for text in texts if isinstance(text, BaseException)], texts
    return first, [text for text in texts if not isinstance(text, BaseException)]


GOOD = [Sampling(), Sampling(rule=Rule.COUPLED, seed=3), Sampling(rule=Rule.REJECTION, seed=5)]


@pytest.mark.parametrize("rule", Rule)
async def test_a_field_that_breaks_scores_is_named(engine: Engine, rule: Rule) -> None:
    alone = [await text_of(engine, [1, i], one) for i, one in enumerate(GOOD)]
    ban = Sampling(rule=rule, suppress_tokens=tuple(range(VOCAB)))
    error, texts = await beside(engine, text_of(engine, [1, 2], ban), GOOD)
    assert isinstance(error, InvalidFieldError)
    assert error.field == "suppress_tokens"
    assert texts == alone


@pytest.mark.parametrize("rule", Rule)
async def test_logits_that_are_broken_themselves(rows: BrittleRows, rule: Rule) -> None:
    rows.table[:, POISON, 2] = float("nan")
    engine = Engine(rows, VOCAB)
    try:
        forced = Sampling(rule=rule, sequence_bias=(((POISON,), 1e9),))
        error, _ = await beside(
            engine, text_of(engine, [1, 2], forced), [Sampling(suppress_tokens=(POISON,))]
        )
        assert isinstance(error, BrokenLogitsError)
        cured = replace(forced, remove_invalid_values=True)
        assert (await text_of(engine, [1, 2], cured))[2] == POISON
    finally:
        engine.close()


@pytest.mark.parametrize("rule", Rule)
async def test_tokens_before_broken_scores_are_kept(rows: BrittleRows, rule: Rule) -> None:
    rows.table[:, POISON] = float("nan")
    rows.table[:, 2], rows.table[:, 2, POISON] = 0.0, 1e9
    engine = Engine(rows, VOCAB)
    try:
        processors = Processors(Sampling(rule=rule, prompt_length=2), engine.device)
        async with engine.pool.lend([1, 2], "") as row:
            verdict = await engine.verify(row, [1, 2], Proposal((POISON, 3)), processors)
            assert verdict.ids == (POISON,)
            with pytest.raises(BrokenLogitsError):
                await engine.verify(row, [1, 2, POISON], NOTHING, processors)
    finally:
        engine.close()


@pytest.mark.parametrize("rule", Rule)
async def test_a_draft_proposes_nothing_past_broken_scores(rows: BrittleRows, rule: Rule) -> None:
    rows.table[:, POISON] = float("nan")
    rows.table[:, 2], rows.table[:, 2, POISON] = 0.0, 1e9
    engine = Engine(rows, VOCAB)
    try:
        processors = Processors(Sampling(rule=rule, prompt_length=2), engine.device)
        options = DraftOptions(4, choose=lambda preview, most: [(0, 0)])
        async with engine.pool.lend([1, 2], "") as row:
            proposal = await engine.draft(row, [1, 2], processors, options)
            assert proposal.ids == (POISON,)
            ahead = await engine.draft_ahead(
                row, [1, 2], proposal, processors, TreeOptions(options, 4, EarlyVerdict())
            )
            assert not ahead.outcomes
            assert not ahead.preview.candidates
    finally:
        engine.close()


async def test_a_processor_that_raises(engine: Engine) -> None:
    # transformers computes factor ** tokens, which overflows.
    decay = Sampling(eos_token_id=(8,), exponential_decay_length_penalty=(0, 1e300))
    error, texts = await beside(engine, text_of(engine, [1, 2], decay), GOOD)
    assert isinstance(error, InvalidFieldError)
    assert error.field == "exponential_decay_length_penalty"
    assert len(texts) == len(GOOD)


async def test_a_token_without_a_row_fails_its_own_job(engine: Engine) -> None:
    async def bad() -> None:
        async with engine.pool.lend([1], "") as row:
            await engine.score(row, [VOCAB + 5], 1)

    error, texts = await beside(engine, bad(), GOOD)
    assert isinstance(error, IndexError)
    assert texts == [await text_of(engine, [1, i], one) for i, one in enumerate(GOOD)]


async def test_a_kernel_that_fails_is_tried_in_smaller_parts(
    rows: BrittleRows, engine: Engine
) -> None:
    alone = [await text_of(engine, [1, i], one) for i, one in enumerate(GOOD)]
    rows.fails_at = POISON

    async def bad() -> None:
        async with engine.pool.lend([1], "") as row:
            await engine.score(row, [POISON], 1)

    error, _ = await beside(engine, bad(), [])
    assert isinstance(error, RuntimeError)
    rows.fails_at, rows.most_tokens = -1, 2
    assert (
        await asyncio.gather(*(text_of(engine, [1, i], one) for i, one in enumerate(GOOD))) == alone
    )
    assert rows.failures > 1, "no step was larger than what the device holds"


async def test_what_never_fits_fails_alone(rows: BrittleRows, engine: Engine) -> None:
    rows.most_tokens = 8

    async def bad() -> None:
        async with engine.pool.lend([1], "") as row:
            await engine.score(row, [1] * 9, 1)

    error, _ = await beside(engine, bad(), GOOD)
    assert isinstance(error, DeviceMemoryError)
    assert "--rows" in str(error)


class PickyJob(Job):
    """A job that can be finished alone only, and not if it is bad."""

    def __init__(self, row: int, bad: bool) -> None:
        self._row, self._bad = row, bad

    @property
    def feeds(self) -> Sequence[Feed]:
        return (Feed(self._row, 0, [1]),)

    @classmethod
    def finish(cls, jobs: "Sequence[PickyJob]", output: PassOutput) -> list[Any]:
        if len(jobs) > 1 or jobs[0]._bad:
            raise KeyError("cannot be finished")
        return [jobs[0]._row]


async def test_jobs_that_cannot_be_finished_together(engine: Engine) -> None:
    results = await asyncio.gather(
        *(engine.submit(PickyJob(row, bad=row == 1)) for row in range(4)), return_exceptions=True
    )
    assert isinstance(results[1], KeyError)
    assert [results[i] for i in (0, 2, 3)] == [0, 2, 3]


async def test_a_lost_device_ends_the_engine(rows: BrittleRows) -> None:
    lost: list[str] = []

    def use(device: torch.device) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    engine = Engine(rows, VOCAB, callbacks=Callbacks(on_lost=lost.append, use=use))
    rows.fails_at = POISON
    async with engine.pool.lend([1], "") as row, engine.pool.lend([1], "") as other:
        results = await asyncio.gather(
            engine.score(row, [POISON], 1), engine.score(other, [1], 1), return_exceptions=True
        )
        assert all(isinstance(result, DeviceLostError) for result in results)
        with pytest.raises(DeviceLostError):
            async with asyncio.timeout(60):
                await engine.score(other, [1], 1)
    assert len(lost) == 1
    assert "illegal memory access" in lost[0]
    engine.close()
