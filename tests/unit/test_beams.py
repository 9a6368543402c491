"""Beam search over log-probabilities equals transformers', tokens and scores."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from decoding.beams import BeamSearch, BeamSettings, Hypothesis
from tests.models import random_model, stock

PROMPT = [5, 9, 300, 5, 9, 17]
NEW_TOKENS = 14


def search(model: nn.Module, settings: BeamSettings, eos: Sequence[int], count: int) -> list[Hypothesis]:
    """The simplest there is: every beam read anew in every step."""
    state = BeamSearch(settings)
    while not state.done:
        ids = torch.tensor([[*PROMPT, *text] for text in state.texts])
        logits: Tensor = model(ids).logits[:, -1].float()
        state.step(logits.log_softmax(-1), lambda t: t[-1] in eos or len(t) == settings.max_new_tokens)
    return state.best(count)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return stock(random_model("llama"))


@torch.inference_mode()
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
def test_it_is_transformers_own(model: nn.Module, early_stopping: Any, length_penalty: float) -> None:
    ends = 0
    for num_beams, eos in product((2, 5), ([0], list(range(0, 4096, 16)), list(range(0, 4096, 3)))):
        settings = BeamSettings(num_beams, NEW_TOKENS, len(eos), length_penalty, early_stopping)
        found = search(model, settings, eos, num_beams)
        out = model.generate(  # type: ignore[operator]
            torch.tensor([PROMPT]),
            attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
            num_beams=num_beams,
            num_return_sequences=num_beams,
            max_new_tokens=NEW_TOKENS,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            eos_token_id=eos,
            pad_token_id=1,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        for one, ids, score in zip(found, out.sequences, out.sequences_scores.tolist(), strict=True):
            assert list(one.ids) == ids[len(PROMPT) : len(PROMPT) + len(one.ids)].tolist()
            assert set(ids[len(PROMPT) + len(one.ids) :].tolist()) <= {1}
            assert one.score == pytest.approx(score, rel=1e-5)
            ends += len(one.ids) < NEW_TOKENS
    assert ends > 0
