"""Beam search over log-probabilities equals that of transformers, in tokens and scores."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import StoppingCriteria, StoppingCriteriaList

from foredraft_engine.search.beams import BeamSearch, BeamSettings, shared_beginning
from tests.models import random_model, stock

PROMPT = [5, 9, 300, 5, 9, 17]
NEW_TOKENS = 14


class LastTokenIn(StoppingCriteria):
    """A criterion other than EOS."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = torch.tensor(list(ids))

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.isin(input_ids[:, -1], self.ids)


def compare(
    model: nn.Module, settings: BeamSettings, eos: Sequence[int], stops: Sequence[int], count: int
) -> bool:
    """Compares a search with transformers'; returns whether a text ended before its full length.

    The search is driven in the simplest way: every beam is read again in every step.
    """
    search, last = BeamSearch(settings), {*eos, *stops}
    shared = []
    while not search.done:
        logits: Tensor = (
            model(torch.tensor([[*PROMPT, *text] for text in search.texts])).logits[:, -1].float()
        )
        search.step(
            logits.log_softmax(-1), lambda t: t[-1] in last or len(t) == settings.max_new_tokens
        )
        shared.append(search.shared(count))
    out = model.generate(  # type: ignore[operator]
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        num_beams=settings.num_beams,
        num_return_sequences=count,
        max_new_tokens=NEW_TOKENS,
        length_penalty=settings.length_penalty,
        early_stopping=settings.early_stopping,
        stopping_criteria=StoppingCriteriaList([LastTokenIn(stops)] if stops else []),
        eos_token_id=eos or None,
        pad_token_id=1,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = search.best(count)
    for one, ids, score in zip(found, out.sequences, out.sequences_scores.tolist(), strict=True):
        assert list(one.ids) == ids[len(PROMPT) : len(PROMPT) + len(one.ids)].tolist()
        assert set(ids[len(PROMPT) + len(one.ids) :].tolist()) <= {1 if eos else -1}
        assert one.score == pytest.approx(score, rel=1e-5)
        assert all(one.ids[: len(beginning)] == beginning for beginning in shared)
    return any(len(one.ids) < NEW_TOKENS for one in found)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return stock(random_model("llama"))


@torch.inference_mode()
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
def test_it_is_transformers_own(
    model: nn.Module, early_stopping: Any, length_penalty: float
) -> None:
    ended = False
    ends: list[list[int]] = [[0], list(range(0, 4096, 16)), list(range(0, 4096, 3))]
    for num_beams, eos in product((2, 5), ends):
        settings = BeamSettings(num_beams, NEW_TOKENS, len(eos), length_penalty, early_stopping)
        for count in {num_beams, 1 + num_beams // 2}:
            ended |= compare(model, settings, eos, [], count)
    # A search that never stops early and rewards length returns texts of full length only.
    assert ended is not (early_stopping == "never" and length_penalty == 2.0)


@torch.inference_mode()
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0])
def test_what_stops_a_text_need_not_be_eos(
    model: nn.Module, early_stopping: Any, length_penalty: float
) -> None:
    """Then fewer live beams may be left than `num_beams`, down to none."""
    ended = False
    for num_beams, eos, step in product((2, 5), ([], [0]), (2, 40)):
        stops = [i for i in range(4096) if i % step]  # all but one of two, all but one of forty
        settings = BeamSettings(num_beams, NEW_TOKENS, len(eos), length_penalty, early_stopping)
        ended |= compare(model, settings, eos, stops, num_beams)
    assert ended


@pytest.mark.parametrize(
    ("texts", "beginning"),
    [
        ([], ()),
        ([(1, 2)], (1, 2)),
        ([(1, 2, 3), (1, 2)], (1, 2)),
        ([(1, 2, 3), (1, 4, 3), (1, 2, 4)], (1,)),
        ([(1,), (2,)], ()),
    ],
)
def test_the_beginning_that_texts_share(
    texts: list[tuple[int, ...]], beginning: tuple[int, ...]
) -> None:
    assert shared_beginning(texts) == beginning
