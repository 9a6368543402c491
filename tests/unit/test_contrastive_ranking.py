"""Contrastive search equals that of transformers 4.55.4."""

import pytest
import torch
from torch import Tensor

from foredraft_engine.search.contrastive_ranking import choose, unit
from tests.strategies.goldens import Case, ends_of, fixture, golden_model, name_of, processors

CASES: list[Case] = fixture("contrastive")["cases"]


def search(case: Case) -> tuple[int, ...]:
    """Searches in the simplest way: the text with each candidate is read again in every step."""
    model, process, ends = golden_model(case["model"]), processors(case), ends_of(case)
    text: tuple[int, ...] = ()
    logits: Tensor = model(torch.tensor([case["prompt"]])).logits[:, -1]
    while not text or not ends(text):
        probs, tokens = process([text], logits).softmax(-1)[0].topk(case["top_k"])
        ids = torch.tensor([[*case["prompt"], *text, token] for token in tokens.tolist()])
        out = model(ids, output_hidden_states=True)
        hidden = unit(out.hidden_states[-1])  # [k, length + 1, hidden]
        chosen = choose(hidden[0, :-1], hidden[:, -1], probs, case["penalty_alpha"])
        text, logits = (*text, int(tokens[chosen])), out.logits[chosen, -1:]
    return text


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_it_is_transformers_own(case: Case) -> None:
    assert list(search(case)) == case["sequences"][0]


def test_the_golden_outputs_have_every_kind_of_end() -> None:
    lengths = {
        (
            len(case["sequences"][0]) < case["max_new_tokens"],
            bool(case["stops"]),
            "forced_eos_token_id" in case,
        )
        for case in CASES
    }
    assert lengths >= {
        (True, True, False),
        (True, False, False),
        (False, False, False),
        (False, False, True),
    }


def test_the_formula() -> None:
    context = unit(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    candidates = unit(torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]]))
    probs = torch.tensor([0.6, 0.3, 0.1])
    # The similarities are 1, 0.71 and -0.71: the text has the first already, the last is new.
    assert choose(context, candidates, probs, 0.0) == 0
    assert choose(context, candidates, probs, 0.1) == 0
    assert choose(context, candidates, probs, 0.5) == 2
    assert choose(context, candidates[:2], probs[:2], 0.6) == 1
