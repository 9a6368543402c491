"""What is NaN in a row does not outlive the text that it belongs to.

What no query sees still takes part in the multiplication, with a weight of zero, and zero times NaN
is NaN.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from foredraft_engine.errors import BrokenLogitsError
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.rows import PackedRows
from foredraft_engine.proposal import NOTHING
from foredraft_engine.sampling import Sampling
from foredraft_engine.scheduling.engine import Engine

VOCAB, POISON = 64, 7
LONG = [1, *range(10, 60)]


@pytest.fixture(params=["pages", "no pages"])
async def engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    """A model that has NaN for one token, on a device with pages or without."""
    monkeypatch.setattr("foredraft_engine.cache.row_store._BY_PAGES", request.param == "pages")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).eval()
    model.get_input_embeddings().weight.data[POISON] = float("nan")
    engine = Engine(PackedRows(model, 2, 1024), VOCAB)
    yield engine
    engine.close()


async def text_of(
    engine: Engine, prompt: list[int], sampling: Sampling, owner: str = ""
) -> list[int]:
    """Generates a few tokens after a prompt."""
    processors, tokens = Processors(sampling, engine.device), list(prompt)
    async with engine.pool.lend(tokens, owner) as row:
        async for _ in engine.prefill(row, tokens):
            pass
        while len(tokens) < len(prompt) + 4:
            tokens += (await engine.verify(row, tokens, NOTHING, processors)).ids
    return tokens


@pytest.mark.parametrize("poisoned", [20, 900])
@pytest.mark.parametrize(("owner", "cured"), [("", False), ("another", False), ("another", True)])
async def test_the_next_text_of_a_row(
    engine: Engine, poisoned: int, owner: str, cured: bool
) -> None:
    plain = Sampling(suppress_tokens=(POISON,))
    broken = Sampling(suppress_tokens=(POISON,), remove_invalid_values=cured)
    short = [await text_of(engine, [1, i], plain, "nobody") for i in (2, 3)]
    long = await text_of(engine, LONG, plain, "nobody")
    prompts = [[1, i, *[POISON] * poisoned] for i in (4, 5)]  # one in each row
    failing = [text_of(engine, prompt, broken) for prompt in prompts]
    for result in await asyncio.gather(*failing, return_exceptions=True):
        assert isinstance(result, list if cured else BrokenLogitsError)
    # Side by side, the short text reads as many places as the long one.
    for i in (0, 1):
        texts = await asyncio.gather(
            text_of(engine, [1, 2 + i], plain, owner), text_of(engine, LONG, plain, owner)
        )
        assert list(texts) == [short[i], long]
