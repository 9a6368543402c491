"""A draft that knows only some tokens changes how fast a text comes, and never the text or its law.

The target says tokens that such a draft cannot propose, and prompts hold them.
"""

from typing import Any

import numpy as np
import pytest

from foredraft import AsyncClient
from foredraft_engine.model.draft_vocabulary import DraftVocabulary
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.model.reduced_rows import ReducedRows
from foredraft_engine.model.rows import Rows
from tests.exactness.laws import texts
from tests.exactness.test_wire import VOCAB, Rule, check_the_law
from tests.fakes import TableRows, random_table
from tests.loopback import draft_service, target_service
from tests.models import bundled, reduced_draft, rows_of

TRIALS = texts(1_250, 5_000)
KNOWN = {"none of the prompt": (0, 2), "one token": (3,)}
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": {"do_sample": True, "seed": 5, "temperature": 0.8},
    "coupled, penalties": {"do_sample": True, "seed": 6, "repetition_penalty": 1.2, "top_p": 0.9},
    "watermark": {"watermarking_config": {"bias": 2.0}},
    "unknown tokens alone": {"suppress_tokens": [i for i in range(4096) if i % 3 == 0]},
}


@TRIALS
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize(("rule", "width"), [("rejection", 0), ("rejection", 2), ("coupled", 0)])
async def test_texts_have_the_targets_law(rule: Rule, width: int, known: str, trials: int) -> None:
    ids = np.array(KNOWN[known])
    own = TableRows(random_table(len(ids) + 1, 1), count=64)
    rows = ReducedRows(own, DraftVocabulary(ids, VOCAB))
    await check_the_law(rule, width, trials, least_accepted=trials // 20, draft_rows=rows)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Every third token of the bundled draft."""
    folder = tmp_path_factory.mktemp("models") / "draft"
    return load(str(reduced_draft(folder, range(0, 4096, 3))), dtype="float32")


def _rows(model: LoadedModel) -> Rows:
    rows = rows_of(model.module, 4, 256, 128)
    return ReducedRows(rows, model.draft_vocabulary) if model.draft_vocabulary else rows


@pytest.mark.parametrize("call", CALLS)
async def test_texts_are_those_without_a_draft(call: str, small: LoadedModel) -> None:
    """They are so with outcomes drafted ahead and alternatives; noise goes by the target's ids."""
    model = bundled("target")
    fields = {"max_new_tokens": 60, "eos_token_id": [], "top_k": 0, **CALLS[call]}
    async with (
        draft_service(_rows(small), small, ngram="off") as draft,
        target_service(
            _rows(model), model, draft.address, alternatives=4, fallback="none"
        ) as target,
        AsyncClient(target.address) as client,
    ):
        for prompt in ("import os\n\ndef walk(top):\n", "class Queue:\n    def __init__(self"):
            plain = await client.generate(prompt, **fields, num_assistant_tokens=0)
            drafted = await client.generate(prompt, **fields, num_assistant_tokens=3)
            assert drafted.token_ids == plain.token_ids
            if call == "unknown tokens alone":
                assert drafted.stats.accepted == 0
                continue
            assert any(i % 3 for i in plain.token_ids), "the target says what the draft cannot"
            assert drafted.stats.accepted > 0
        pushed = draft.value("foredraft_draft_outcomes_total")
        assert (pushed > 0) == (call != "unknown tokens alone")
