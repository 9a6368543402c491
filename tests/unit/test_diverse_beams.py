"""Diverse beam search equals that of transformers 4.55.4, in tokens and scores."""

import pytest
import torch
from torch import Tensor

from foredraft_engine.search.beams import Search
from foredraft_engine.search.diverse_beams import DiverseBeamSearch, DiverseBeamSettings
from tests.strategies.goldens import Case, ends_of, fixture, golden_model, name_of, processors

CASES: list[Case] = fixture("diverse")["cases"]


def searched(case: Case) -> DiverseBeamSearch:
    names = ("num_beams", "num_beam_groups", "diversity_penalty", "max_new_tokens", "pad_token_id")
    settings = DiverseBeamSettings(
        **{name: case[name] for name in (*names, "length_penalty", "early_stopping")},
        eos_token_ids=tuple(case["eos_token_id"]),
    )
    return DiverseBeamSearch(settings, processors(case))


def drive(search: Search, case: Case) -> list[tuple[int, ...]]:
    """Drives a search in the simplest way: every beam is read again in every step.

    Returns:
        The common beginning of the texts after each step.
    """
    shared = []
    while not search.done:
        ids = torch.tensor([[*case["prompt"], *text] for text in search.texts])
        logits: Tensor = golden_model(case["model"])(ids).logits[:, -1].float()
        moves, before = search.step(logits.log_softmax(-1), ends_of(case)), search.texts
        assert len(moves) == len(before) == case["num_beams"]
        shared.append(search.shared(case["num_return_sequences"]))
    return shared


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["diverse", "contrastive"])
@pytest.mark.parametrize("model", ["tiny", "target"])
def test_the_models_are_those_of_the_golden_outputs(kind: str, model: str) -> None:
    golden = fixture(kind)
    assert golden["transformers"] == "4.55.4"
    probe = golden["probes"][model]
    logits = golden_model(model)(torch.tensor([golden["prompts"][model]])).logits[
        0, -1, : len(probe)
    ]
    torch.testing.assert_close(logits, torch.tensor(probe), rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_it_is_transformers_own(case: Case) -> None:
    search = searched(case)
    shared = drive(search, case)
    found = search.best(case["num_return_sequences"])
    for one, ids, score in zip(found, case["sequences"], case["scores"], strict=True):
        assert list(one.ids) == ids[: len(one.ids)]
        assert set(ids[len(one.ids) :]) <= {case["pad_token_id"]}
        assert one.score == pytest.approx(score, rel=1e-4)
        assert all(one.ids[: len(beginning)] == beginning for beginning in shared)
    assert [len(beginning) for beginning in shared] == sorted(
        len(beginning) for beginning in shared
    )


def test_the_golden_outputs_have_every_kind_of_end() -> None:
    stopped = [
        case
        for case in CASES
        if case["stops"] and len(case["sequences"][0]) < case["max_new_tokens"]
    ]
    assert any(case["eos_token_id"][0] in case["sequences"][0] for case in stopped)
    assert any(case["pad_token_id"] == case["eos_token_id"][0] for case in CASES)
    for early_stopping in (False, True, "never"):
        these = [case for case in CASES if case["early_stopping"] == early_stopping]
        assert any(
            set(case["eos_token_id"]) & {i for one in case["sequences"] for i in one}
            for case in these
        )


def test_groups_that_are_over_leave_their_padding_to_be_shunned() -> None:
    settings = DiverseBeamSettings(
        4, 2, 9.0, 8, eos_token_ids=(0,), pad_token_id=3, early_stopping=True
    )
    search = DiverseBeamSearch(settings)
    likes_the_end = torch.tensor([0.0, -0.5, -1.0, -8.0, -9.0]).repeat(2, 1)
    likes_padding = torch.tensor([-20.0, -2.0, -1.0, 0.0, -9.0]).repeat(2, 1)
    while not search._groups[0].over:
        search.step(torch.cat([likes_the_end, likes_padding]), lambda text: len(text) == 8)
    moves = search.step(torch.cat([likes_the_end, likes_padding]), lambda text: len(text) == 8)
    assert [move.token for move in moves[:2]] == [3, 3]
    assert 3 not in [move.token for move in moves[2:]]
