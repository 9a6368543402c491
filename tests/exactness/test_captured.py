"""Texts are the same where the passes of both services are recorded, as they are on CUDA."""

import asyncio
from typing import Any

import pytest

from foredraft import AsyncClient
from foredraft_engine.model.captured_rows import capture_rows
from foredraft_engine.model.rows import PackedRows
from tests.loopback import draft_service, target_service
from tests.models import loaded, random_model, rows_of
from tests.recorded import OperationRecorder

PROMPT = [5, 6, 7, 5, 6, 9]
SEEDED: dict[str, Any] = {"do_sample": True, "seed": 4, "sampling_rule": "coupled"}
CALLS: dict[str, dict[str, Any]] = {
    "greedy": {"num_assistant_tokens": 3},
    "n-grams": {"prompt_lookup_num_tokens": 3},
    "coupled": {**SEEDED, "num_assistant_tokens": 3},
    "rejection": {**SEEDED, "sampling_rule": "rejection", "num_assistant_tokens": 3},
    "beams": {"num_beams": 3},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 3},
    "guided": {"guidance_scale": 1.5, "negative_prompt": [5, 6]},
}


async def texts(recorder: OperationRecorder | None, runs_ahead: bool) -> list[tuple[int, ...]]:
    """Returns the text of each call, of two services whose passes are recorded by `recorder`."""
    model = loaded(random_model("llama"), "llama")
    draft_rows, target_rows = (
        rows_of(model.module, 6, 128, spare=64),
        rows_of(random_model("llama"), 8, 128, spare=16),
    )
    for rows in (draft_rows, target_rows):
        assert isinstance(rows, PackedRows)
        rows.runs_ahead = runs_ahead
        if recorder:
            assert not capture_rows(rows, "on", recorder)
    async with (
        draft_service(draft_rows, model) as draft,
        target_service(target_rows, model, draft.address, draft_timeout=60.0) as target,
        AsyncClient(target.address, timeout=300) as client,
    ):
        made: list[tuple[int, ...]] = []
        for _ in range(2):  # the first time records much of what the second one replays
            results: list[Any] = [
                await client.generate(PROMPT, max_new_tokens=12, **fields)
                for fields in CALLS.values()
            ]
            results += await asyncio.gather(
                *(client.generate([n, *PROMPT], max_new_tokens=8) for n in range(4))
            )
            made += [result.token_ids for result in results]
    return made


@pytest.mark.parametrize("runs_ahead", [False, True], ids=["one pass a step", "whole proposals"])
async def test_texts_are_the_same(runs_ahead: bool) -> None:
    recorder = OperationRecorder()
    assert await texts(recorder, runs_ahead) == await texts(None, runs_ahead)
    assert recorder.replays > 20
