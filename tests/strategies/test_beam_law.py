"""Beam sampling has transformers' distribution, by one enumerated law for both, and its seeds
repeat.
"""

from collections import Counter, defaultdict
from functools import cache
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from foredraft import AsyncClient
from foredraft_engine.noise import Purpose, gumbel, key
from foredraft_engine.search.beams import BeamSearch, BeamSettings
from tests.exactness.laws import LUCK, p_value
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import target_service

VOCAB, BEAMS, PROMPT = 6, 2, (1, 2, 3)
KEPT = 2 * BEAMS  # continuations that are drawn in a step, without an end of the sequence
OURS, THEIRS = 8_000, 20_000


@cache
def _model() -> nn.Module:
    torch.manual_seed(2)
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(
        vocab_size=VOCAB, initializer_range=0.7, eos_token_id=None, pad_token_id=0, **size
    )
    model: nn.Module = LlamaForCausalLM(config).eval()
    return model


@torch.inference_mode()
def _log_probs(text: tuple[int, ...]) -> Tensor:
    logits: Tensor = _model()(torch.tensor([[*PROMPT, *text]])).logits[0, -1]
    return logits.log_softmax(-1)


def _law() -> dict[tuple[int, ...], float]:
    """Returns the law of the best of two beams over two tokens.

    Continuations are drawn in order and without replacement, and the likeliest of them go on. When
    all texts end, those that were drawn first count.
    """
    law: dict[tuple[int, ...], float] = defaultdict(float)
    first = _log_probs(())
    after = {token: _log_probs((token,)) for token in range(VOCAB)}
    for drawn in permutations(range(VOCAB), KEPT):
        chance = _chance(first.exp().tolist(), drawn)
        beams = sorted(drawn, key=lambda token: -first[token].item())[:BEAMS]
        totals = torch.stack([first[token] + after[token] for token in beams]).flatten()
        weights = totals.exp().tolist()
        for ends in permutations(range(len(weights)), BEAMS):
            best = max(ends, key=lambda place: weights[place])
            law[(beams[best // VOCAB], best % VOCAB)] += chance * _chance(weights, ends)
    return dict(law)


def _chance(weights: list[float], drawn: tuple[int, ...]) -> float:
    """Returns the probability of drawing just these, in this order."""
    left, chance = sum(weights), 1.0
    for place in drawn:
        chance *= weights[place] / left
        left -= weights[place]
    return chance


def _ours(seed: int) -> tuple[int, ...]:
    search = BeamSearch(BeamSettings(BEAMS, 2, 0))
    while not search.done:
        at = len(search.texts[0])
        log_probs = torch.stack([_KEPT_LOG_PROBS[text] for text in search.texts])
        keys = torch.tensor([key(seed, Purpose.BEAM, 0, at, beam) for beam in range(BEAMS)])
        search.step(log_probs, lambda text: len(text) == 2, gumbel(keys, VOCAB))
    return search.best(1)[0].ids


_KEPT_LOG_PROBS: dict[tuple[int, ...], Tensor] = {(): _log_probs(())} | {
    (token,): _log_probs((token,)) for token in range(VOCAB)
}


def test_the_law_of_the_best_text() -> None:
    law = _law()
    assert abs(sum(law.values()) - 1) < 1e-4
    assert p_value(Counter(_ours(seed) for seed in range(OURS)), law) > LUCK
    torch.manual_seed(0)
    ids = torch.tensor([PROMPT] * THEIRS)
    out = _model().generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        num_beams=BEAMS,
        do_sample=True,
        max_new_tokens=2,
        top_k=0,
    )
    assert p_value(Counter(map(tuple, out[:, len(PROMPT) :].tolist())), law) > LUCK


async def test_a_seed_repeats_whoever_is_beside() -> None:
    """Another seed, or another prompt of the batch, has noise of its own."""
    fields: dict[str, Any] = {
        "num_beams": 3,
        "do_sample": True,
        "max_new_tokens": 16,
        "num_return_sequences": 3,
        "top_k": 0,
    }
    table = random_table(10, 4)
    async with (
        target_service(TableRows(table), table_model(10)) as target,
        AsyncClient(target.address) as client,
    ):
        alone = await client.generate([1, 2, 3], seed=5, **fields)
        batch = await client.generate([[1, 2, 3]] * 2, seed=5, **fields)
        other = await client.generate([1, 2, 3], seed=6, **fields)
    texts = [r.token_ids for r in batch]
    assert [r.token_ids for r in alone] == texts[:3] != texts[3:]
    assert [r.token_ids for r in other] != texts[:3]
    assert len(set(texts[:3])) == 3
    assert alone[0].stats.seed == 5
    assert alone[0].stats.seed_repeats_with_any_drafter
