"""A draft that knows some of its target's tokens computes what a whole one would for these."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor

from draft_service.settings import DraftSettings
from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.forward_pass import Unread
from foredraft_engine.model.draft_vocabulary import FILE, DraftVocabulary
from foredraft_engine.model.loading import load
from foredraft_engine.model.reduced_rows import ReducedRows
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import start_engine
from target_service.serve import serve
from target_service.settings import TargetSettings
from tests.fakes import TableRows, random_table
from tests.models import bundled, reduced_draft

KNOWN, SIZE = (0, 2, 3, 7), 9
OTHERS = [i for i in range(SIZE) if i not in KNOWN]


def test_known_tokens_have_the_models_logits_and_others_none() -> None:
    """Whether the host has read the ids or not, and in a tree too."""
    table = random_table(len(KNOWN) + 1, 0)
    own = TableRows(table)
    rows = ReducedRows(TableRows(table), DraftVocabulary(np.array(KNOWN), SIZE))
    tree = Tree(3, [3, 3], [[], []])
    first, then = own.forward([Feed(0, 0, [3, 4, 1])], [2]), [Feed(0, 3, [2, 4], tree)]
    expected = torch.cat([first, own.forward(then, [2]), first])
    text = [7, 5, 2]
    unread = rows.prepare([Feed(1, 0, Unread(3))], [2])
    logits = torch.cat(
        [
            rows.forward([Feed(0, 0, text)], [2]),
            rows.forward([Feed(0, 3, [3, 8], tree)], [2]),
            unread.run([], torch.tensor(text)),
        ]
    )
    assert torch.equal(logits[:, list(KNOWN)], expected[:, : len(KNOWN)])
    assert logits[:, OTHERS].isneginf().all()


async def test_a_directory_with_a_table_is_served_in_the_ids_of_its_target(tmp_path: Path) -> None:
    """Its logits are those of the whole model, in which unknown tokens have one embedding."""
    known = [*range(0, 4096, 3)]
    folder = str(reduced_draft(tmp_path / "draft", known))
    settings = DraftSettings(model=folder, rows=2, max_length=64, dtype="float32")
    loaded = await start_engine(folder, settings, Callbacks(), spare=8)
    try:
        assert loaded.model.vocabulary.fingerprint == bundled("draft").vocabulary.fingerprint
        assert loaded.model.known_ids == loaded.model.scored_ids == 4096
        ids = [3, 4, 9, 5, 300, 1000, 999]
        async with loaded.engine.pool.lend(ids, "") as row:
            logits = await loaded.engine.score(row, ids, len(ids))
    finally:
        loaded.engine.close()
    assert torch.allclose(logits[:, known], _whole_logits(known, ids)[:, known], atol=1e-3)
    others = [i for i in range(4096) if i % 3]
    assert logits[:, others].isneginf().all()


@torch.no_grad()
def _whole_logits(known: list[int], ids: list[int]) -> Tensor:
    """Returns the logits of the bundled draft, rounded like the small one, float32 [n, vocab]."""
    whole: Any = bundled("draft").module
    whole.set_attn_implementation("eager")
    table = whole.model.embed_tokens.weight
    others = [i for i in range(len(table)) if i not in set(known)]
    table[others] = table[others].mean(0)
    for weight in whole.parameters():
        weight.copy_(weight.bfloat16())
    logits: Tensor = whole(torch.tensor([ids])).logits[0]
    return logits


def _no_table(file: Path) -> None:
    file.write_bytes(b"?")


def _ids(*ids: int) -> Callable[[Path], None]:
    return lambda file: save_file({"target_ids": np.array(ids, dtype=np.int32)}, file)


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no safetensors": (_no_table, "cannot load draft_vocabulary"),
    "another tensor": (
        lambda file: save_file({"ids": np.arange(3, dtype=np.int32)}, file),
        "no list of ids 'target_ids'",
    ),
    "no ids": (_ids(), "no list of ids"),
    "ids that fall": (_ids(5, 3), "does not rise within the 4096 ids"),
    "ids twice": (_ids(3, 3), "does not rise"),
    "ids of another tokenizer": (_ids(3, 4096), "does not rise within the 4096 ids"),
    "too many ids": (_ids(*range(4)), "lists 4 ids, and the model has 4 rows"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_table_that_does_not_fit_is_told(name: str, tmp_path: Path) -> None:
    spoil, said = SPOILED[name]
    folder = reduced_draft(tmp_path / "draft", [3, 5, 9])
    spoil(folder / FILE)
    with pytest.raises(ModelError, match=said) as caught:
        load(str(folder))
    assert str(folder) in str(caught.value)


async def test_a_target_is_not_served_with_some_tokens_alone(tmp_path: Path) -> None:
    folder = str(reduced_draft(tmp_path / "draft", range(64)))
    settings = TargetSettings(
        model=folder, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", rows=1, max_length=64
    )
    with pytest.raises(ModelError, match="is a draft that knows 64 of 4096 tokens: give it to"):
        await serve(settings)
