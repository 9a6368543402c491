"""The examples of docs/generation.md run, as they stand, against the bundled pair."""

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from foredraft import Client
from target_service.request.model_config import model_config
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of

_DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "generation.md"


def _examples() -> list[tuple[str, str]]:
    """Returns headings and the Python under each."""
    sections = re.split(r"^## ", _DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        heading, _, body = section.partition("\n")
        blocks = re.findall(r"^```python\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
        found += [(f"{heading} {i}", block) for i, block in enumerate(blocks, 1)]
    return found


def test_every_way_to_generate_has_an_example() -> None:
    headings = {name.rsplit(" ", 1)[0] for name, _ in _examples()}
    everything = set(re.findall(r"^## (.*)$", _DOCUMENT.read_text(), flags=re.MULTILINE))
    assert everything - headings <= {"What is refused"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[str]:
    model = bundled("target")
    async with (
        draft_service(
            rows_of(copy.deepcopy(bundled("draft").module), 16), bundled("draft")
        ) as draft,
        target_service(
            rows_of(copy.deepcopy(model.module), 16, spare=16),
            model,
            draft.address,
            model_config("target", model.generation_config.to_dict()),
        ) as target,
    ):
        yield target.address


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "example", [block for _, block in _examples()], ids=[name for name, _ in _examples()]
)
async def test_the_examples_run(address: str, example: str) -> None:
    def run() -> None:
        with Client(address) as client:
            exec(compile(example, str(_DOCUMENT), "exec"), {"client": client})

    await asyncio.to_thread(run)
