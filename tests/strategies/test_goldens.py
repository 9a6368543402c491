"""Diverse beam search and contrastive search give the golden outputs of transformers 4.55.4 over
the wire.
"""

import copy
from typing import Any

import pytest

from foredraft import AsyncClient
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.vocabulary import Vocabulary
from tests.loopback import target_service
from tests.models import bundled, rows_of
from tests.strategies.goldens import Case, fixture, golden_model

# These entries of the fixtures are no parameters of ours.
_NO_PARAMETERS = {"model", "prompt", "stops", "sequences", "scores"}


def _model(name: str) -> LoadedModel:
    tokenizer = bundled("target").tokenizer
    module: Any = copy.deepcopy(golden_model(name))
    return LoadedModel(name, module, tokenizer, Vocabulary(b"", module.config.vocab_size), 128)


def _cases(kind: str, model: str) -> list[Case]:
    return [case for case in fixture(kind)["cases"] if case["model"] == model and not case["stops"]]


@pytest.mark.parametrize("kind", ["diverse", "contrastive"])
@pytest.mark.parametrize("name", ["tiny", "target"])
@pytest.mark.parametrize("branches", [True, False], ids=["branches", "rows"])
async def test_they_are_transformers_own(kind: str, name: str, branches: bool) -> None:
    model = _model(name)
    rows = rows_of(model.module, count=8, capacity=128)
    rows.branches = branches
    cases = _cases(kind, name)
    assert len(cases) > 5
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        for case in cases[:: 1 if branches else 3]:
            fields: dict[str, Any] = {
                key: value for key, value in case.items() if key not in _NO_PARAMETERS
            }
            found = await client.generate(case["prompt"], **fields)
            results = found if isinstance(found, list) else [found]
            for result, ids in zip(results, case["sequences"], strict=True):
                assert list(result.token_ids) == ids[: len(result.token_ids)]
                assert set(ids[len(result.token_ids) :]) <= {case["pad_token_id"]}
            if case["scores"]:
                assert [result.score for result in results] == pytest.approx(
                    case["scores"], rel=1e-4
                )
            assert {result.stats.drafter for result in results} == {"none"}
