"""The examples of the documents run, as they stand, against the bundled pair."""

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from foredraft import Client
from foredraft.wire.other_names import HINTS
from target_service.request.model_config import model_config
from tests.chat_templates import TEMPLATES
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of

_DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
_GENERATION, _INTEGRATIONS = _DOCS / "generation.md", _DOCS / "integrations.md"
_STRUCTURED = _DOCS / "structured-output.md"


def _examples(document: Path) -> list[tuple[str, str]]:
    """Returns headings and the Python under each."""
    sections = re.split(r"^## ", document.read_text(), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        heading, _, body = section.partition("\n")
        blocks = re.findall(r"^```python\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
        found += [(f"{heading} {i}", block) for i, block in enumerate(blocks, 1)]
    return found


def test_every_way_to_generate_has_an_example() -> None:
    headings = {name.rsplit(" ", 1)[0] for name, _ in _examples(_GENERATION)}
    everything = set(re.findall(r"^## (.*)$", _GENERATION.read_text(), flags=re.MULTILINE))
    assert everything - headings <= {"What is refused"}


def test_the_names_of_others_are_refused_with_those_here() -> None:
    table = _INTEGRATIONS.read_text().partition("| there | here |")[2].partition("```")[0]
    rows = [row for row in table.splitlines()[2:] if row]
    assert len(rows) > 9
    for row in rows:
        _, there, here, _ = row.split("|")
        names = re.findall(r"`(\w+)`", there)
        if "the same" in here:
            assert not set(names) & HINTS.keys()
            continue
        assert set(names) <= HINTS.keys()
        for name in names:
            shown = re.findall(r"`(\w+)", here)
            assert not shown or any(word in HINTS[name] for word in shown), name


_ALL = _examples(_GENERATION) + _examples(_INTEGRATIONS) + _examples(_STRUCTURED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[str]:
    model = replace(bundled("target"), tokenizer=copy.deepcopy(bundled("target").tokenizer))
    model.tokenizer.chat_template = TEMPLATES["Qwen3"]  # the bundled pair has none
    async with (
        draft_service(rows_of(bundled("draft").module, 16), bundled("draft")) as draft,
        target_service(
            rows_of(copy.deepcopy(model.module), 16, spare=16),
            model,
            draft.address,
            model_config("target", model.generation_config.to_dict()),
        ) as target,
    ):
        yield target.address


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("example", [block for _, block in _ALL], ids=[name for name, _ in _ALL])
async def test_the_examples_run(address: str, example: str) -> None:
    def run() -> None:
        with Client(address) as client:
            exec(compile(example, "an example", "exec"), {"client": client})

    await asyncio.to_thread(run)
