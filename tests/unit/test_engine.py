"""The engine joins waiting jobs, keeps rows apart, reuses prefixes, survives cancelled callers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest
import torch

from foredraft_engine.feed import Feed
from foredraft_engine.job import UNFINISHED, Job, PassOutput
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.sampling import Sampling
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.speculation.draft_options import DraftOptions
from tests.fakes import TableRows, random_table

VOCAB = 9


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(TableRows(random_table(VOCAB, 0), count=6), VOCAB, chunk_tokens=32)
    yield engine
    engine.close()


def _greedy(engine: Engine, tokens: list[int], n: int) -> list[int]:
    rows: TableRows = engine.rows  # type: ignore[assignment]
    text = list(tokens)
    for _ in range(n):
        text.append(int(rows._logits(text).argmax()))
    return text


async def _decode(engine: Engine, prompt: list[int], n: int, proposals: bool = False) -> list[int]:
    processors = Processors(Sampling(prompt_length=len(prompt)), engine.device)
    tokens, right = list(prompt), _greedy(engine, prompt, n + 5)
    async with engine.pool.lend(tokens, "") as row:
        async for _ in engine.prefill(row, tokens):
            pass
        while len(tokens) < len(prompt) + n:
            proposal = Proposal((right[len(tokens)], 0, 0)) if proposals else NOTHING
            tokens += (await engine.verify(row, tokens, proposal, processors)).ids
    return tokens[: len(prompt) + n]


async def test_what_waits_is_joined(engine: Engine) -> None:
    prompts = [[i, i + 1, i + 2] for i in range(6)]
    texts = await asyncio.gather(
        *(_decode(engine, p, 12, proposals=i % 2 == 0) for i, p in enumerate(prompts))
    )
    assert texts == [_greedy(engine, p, 12) for p in prompts]
    assert max(engine.rows.steps) == 6  # type: ignore[attr-defined]


async def test_a_long_prompt_leaves_steps_to_others(engine: Engine) -> None:
    long = [1, 2, 3, 4] * 60
    steps = engine.rows.steps  # type: ignore[attr-defined]
    texts = await asyncio.gather(_decode(engine, long, 12), _decode(engine, [1, 2], 40))
    assert list(texts) == [_greedy(engine, long, 12), _greedy(engine, [1, 2], 40)]
    assert 2 in steps
    assert max(engine.rows.fed) <= 32 + 1  # type: ignore[attr-defined]


async def test_prompts_that_arrive_together_are_read_in_larger_steps(engine: Engine) -> None:
    prompts = [[i, *range(8), *range(8), *range(8), *range(5)] for i in range(6)]
    texts = await asyncio.gather(*(_decode(engine, p, 4) for p in prompts))
    assert texts == [_greedy(engine, p, 4) for p in prompts]
    assert max(engine.rows.fed) == 4 * 29  # type: ignore[attr-defined]


async def test_more_sequences_than_rows_wait_in_line(engine: Engine) -> None:
    prompts = [[i % VOCAB, (i * 5) % VOCAB] for i in range(25)]
    assert await asyncio.gather(*(_decode(engine, p, 6) for p in prompts)) == [
        _greedy(engine, p, 6) for p in prompts
    ]
    assert engine.pool.in_use == engine.pool.waiting == 0


async def test_a_prefix_is_reused_by_its_owner_only(engine: Engine) -> None:
    async with engine.pool.lend([1, 2, 3, 4], "me") as row:
        await engine.score(row, [1, 2, 3, 4], 1)
        used = row.index
    async with engine.pool.lend([1, 2, 3, 5, 6], "somebody") as row:
        assert row.cached == []
    async with engine.pool.lend([1, 2, 3, 5, 6], "me") as row:
        assert (row.index, row.cached) == (used, [1, 2, 3])
    async with engine.pool.lend([1, 2, 3], "me") as row:
        assert row.cached == [1, 2], "the last token is always to be fed"


async def test_cancelled_callers_give_their_rows_back(engine: Engine) -> None:
    running = [asyncio.create_task(_decode(engine, [i, i], 500)) for i in range(9)]
    await asyncio.sleep(0.05)
    assert engine.pool.in_use == 6
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert engine.pool.in_use == engine.pool.waiting == 0
    assert await _decode(engine, [3, 4], 10) == _greedy(engine, [3, 4], 10)


async def test_a_turn_that_is_not_used_is_passed_on(engine: Engine) -> None:
    async def hold(event: asyncio.Event) -> None:
        async with engine.pool.lend([1], ""):
            await event.wait()

    done = asyncio.Event()
    holders = [asyncio.create_task(hold(done)) for _ in range(6)]
    await asyncio.sleep(0)
    first, second = (asyncio.create_task(hold(done)) for _ in range(2))
    await asyncio.sleep(0)
    holders[0].cancel()
    await asyncio.wait([holders[0]])
    first.cancel()
    await asyncio.wait([first])
    done.set()
    await asyncio.wait_for(second, 60)


async def test_a_failing_step_fails_its_callers_only(engine: Engine) -> None:
    async with engine.pool.lend([1], "") as row:
        with pytest.raises(IndexError):
            await engine.score(row, [VOCAB + 5], 1)
    assert await _decode(engine, [3, 4], 5) == _greedy(engine, [3, 4], 5)


async def test_padding_is_never_chosen() -> None:
    table = torch.zeros(VOCAB, VOCAB, VOCAB)
    table[:, :, VOCAB - 1] = 9.0  # the padded id has the largest logit everywhere
    engine = Engine(TableRows(table), VOCAB - 1)
    try:
        assert VOCAB - 1 not in (await _decode(engine, [1, 2], 8))
    finally:
        engine.close()


async def test_drafts_end_at_eos_at_k_and_below_the_confidence(engine: Engine) -> None:
    right = _greedy(engine, [1, 2], 8)[2:]
    processors = Processors(Sampling(prompt_length=2), engine.device)
    async with engine.pool.lend([1, 2], "") as row:
        proposal = await engine.draft(row, [1, 2], processors, DraftOptions(5))
        assert list(proposal.ids) == right[:5]
        row.truncate(1)
        eos = Processors(Sampling(prompt_length=2, eos_token_id=(right[1],)), engine.device)
        ids = (await engine.draft(row, [1, 2], eos, DraftOptions(5))).ids
        assert list(ids) == right[: right.index(right[1]) + 1]
        row.truncate(1)
        unsure = await engine.draft(row, [1, 2], processors, DraftOptions(5, confidence=1.0))
        assert list(unsure.ids) == right[:1], "an unsure token is kept: it ends the proposal"
        row.truncate(1)
        late = await engine.draft(row, [1, 2], processors, DraftOptions(5, deadline=0.0))
        assert list(late.ids) == right[:1]


class ContrastJob(Job):
    """A kind of job that the engine does not know: two texts go on, each with the token that the
    other likes best, for several steps.
    """

    batches: ClassVar[list[int]] = []

    def __init__(self, rows: tuple[int, int], texts: tuple[list[int], list[int]], n: int) -> None:
        self._n, self._texts = n, [list(text) for text in texts]
        self._feeds = [Feed(row, 0, text) for row, text in zip(rows, texts, strict=True)]

    @property
    def feeds(self) -> Sequence[Feed]:
        return self._feeds

    @property
    def scored(self) -> int:
        return 1

    @classmethod
    def finish(cls, jobs: Sequence["ContrastJob"], output: PassOutput) -> list[Any]:
        cls.batches.append(len(jobs))
        best = output.logits.argmax(-1).view(len(jobs), 2).tolist()
        return [job._take(*pair) for job, pair in zip(jobs, best, strict=True)]

    def _take(self, first: int, second: int) -> Any:
        feeds = zip(self._feeds, (second, first), strict=True)
        self._feeds = [Feed(f.row, f.start + len(f.ids), [token]) for f, token in feeds]
        for text, token in zip(self._texts, (second, first), strict=True):
            text.append(token)
        self._n -= 1
        return UNFINISHED if self._n else self._texts


async def test_a_new_kind_of_job_runs_unchanged(engine: Engine) -> None:
    def expected(one: list[int], other: list[int]) -> list[list[int]]:
        for _ in range(4):
            first, second = (_greedy(engine, text, 1)[-1] for text in (one, other))
            one, other = [*one, second], [*other, first]
        return [one, other]

    # The rows of the jobs interleave, and the two feeds of one job are not in the order of rows.
    jobs = [
        ContrastJob((5, 2), ([1, 2, 3], [4]), 4),
        ContrastJob((3, 4), ([5, 6], [7, 8, 1, 2]), 4),
    ]
    ContrastJob.batches.clear()
    others = _decode(engine, [1, 2], 9, proposals=True)
    *texts, decoded = await asyncio.gather(*map(engine.submit, jobs), others)
    assert texts == [expected([1, 2, 3], [4]), expected([5, 6], [7, 8, 1, 2])]
    assert ContrastJob.batches == [2] * 4, "jobs of a kind are one batch"
    assert decoded == _greedy(engine, [1, 2], 9)


async def test_closing_cancels_who_waits() -> None:
    engine = Engine(TableRows(random_table(VOCAB, 0)), VOCAB)
    running = asyncio.create_task(_decode(engine, [1, 2], 10_000))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(engine.close)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
