"""Several continuations of one prompt are what each would be alone, in one row or in several."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.branches import _OneRow, _SeveralRows, branches, fits, peek
from tests.models import random_model, rows_of, stock

PROMPT = [5, 9, 300, 5, 9, 17, 40, 41]
TEXTS, STEPS = 5, 12


@pytest.fixture(scope="module", params=["llama", "mistral"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["one row", "several rows"])
def engine(request: pytest.FixtureRequest, name: str) -> Iterator[Engine]:
    rows = rows_of(random_model(name), count=TEXTS, capacity=len(PROMPT) + TEXTS * STEPS)
    rows.branches = request.param == "one row"
    engine = Engine(rows, 4096)
    yield engine
    engine.close()


def _logits(model: nn.Module, text: list[int]) -> Tensor:
    return model(torch.tensor([text])).logits[0, -1].detach()  # type: ignore[no-any-return]


async def test_they_say_what_they_say_alone(engine: Engine, name: str) -> None:
    model, draw = stock(random_model(name)), random.Random(1)
    async with branches(engine, PROMPT, TEXTS, STEPS, "") as (row, grown):
        assert isinstance(grown, _OneRow if engine.rows.branches else _SeveralRows)
        async for _ in engine.prefill(row, PROMPT):
            pass
        await engine.score(row, PROMPT[-1:], 1)
        texts: list[list[int]] = [[]]
        for _ in range(STEPS):
            parents = [draw.randrange(len(texts)) for _ in range(TEXTS)]
            ids = [draw.randrange(4096) for _ in range(TEXTS)]
            texts = [[*texts[parent], token] for parent, token in zip(parents, ids, strict=True)]
            got = await grown.grow(parents, ids, lambda logits, hidden: logits)
            for text, logits in zip(texts, got, strict=True):
                torch.testing.assert_close(
                    logits, _logits(model, [*PROMPT, *text]), atol=2e-4, rtol=1e-3
                )
    assert engine.pool.in_use == 0


async def test_peeking_keeps_the_token_alone(engine: Engine, name: str) -> None:
    model = stock(random_model(name))
    async with engine.pool.lend(PROMPT, "") as row:
        await engine.score(row, PROMPT[:-1], 0)
        candidates = [7, 300, 5]
        logits, hidden = await peek(
            engine, row, PROMPT[-1], candidates, lambda logits, hidden: (logits, hidden)
        )
        for i, candidate in enumerate(candidates):
            torch.testing.assert_close(
                logits[i], _logits(model, [*PROMPT, candidate]), atol=2e-4, rtol=1e-3
            )
        assert hidden.shape == (3, 48)
        assert row.cached == PROMPT
        after = await engine.score(row, [77], 1)
        torch.testing.assert_close(after[0], _logits(model, [*PROMPT, 77]), atol=2e-4, rtol=1e-3)


def test_what_fits() -> None:
    engine = Engine(rows_of(random_model("llama"), count=3, capacity=100, spare=10), 4096)
    try:
        assert fits(engine, 10, 10, 10)
        assert not fits(engine, 11, 10, 10)
        assert fits(engine, 90, 3, 50)  # a row for each
    finally:
        engine.close()
