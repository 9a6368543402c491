"""Every script in examples/ runs as it stands, against real services on the bundled pair."""

import asyncio
import copy
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from foredraft import AsyncClient
from tests.chat_templates import TEMPLATES
from tests.integration.processes import ROOT, environment
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of
from tests.sdk.fake_target import FakeTarget, finished, started
from tests.sdk.fake_target import chunk as piece

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
_MAX_LINES = 30
_PATIENCE_S = 120.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Pair:
    """The addresses of both services, and what scripts printed with them."""

    target: str
    draft: str
    printed: dict[str, str] = field(default_factory=dict)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    model = replace(bundled("target"), tokenizer=copy.deepcopy(bundled("target").tokenizer))
    model.tokenizer.chat_template = TEMPLATES["Qwen3"]  # the bundled pair has none
    small = bundled("draft")
    async with (
        draft_service(rows_of(copy.deepcopy(small.module), 16), small) as draft,
        target_service(
            rows_of(copy.deepcopy(model.module), 16, spare=16), model, draft.address
        ) as target,
    ):
        yield Pair(target.address, draft.address)


def _read(file: Path) -> str:
    return file.read_text()


async def _printed(name: str, pair: Pair) -> str:
    """Returns what a script prints, which runs once."""
    if name not in pair.printed:
        pair.printed[name] = await _run(name, pair)
    return pair.printed[name]


async def _run(name: str, pair: Pair) -> str:
    """Returns what a script prints; fails with its errors if it fails."""
    surroundings = {
        **environment(),
        "FOREDRAFT_ADDRESS": pair.target,
        "FOREDRAFT_DRAFT": pair.draft,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / name),
        cwd=ROOT,
        env=surroundings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return out.decode()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
async def test_an_example_runs_and_is_short(pair: Pair, file: Path) -> None:
    text = _read(file)
    assert text.count("\n") <= _MAX_LINES
    assert text.startswith('"""')
    assert (await _printed(file.name, pair)).strip()


async def test_there_are_five() -> None:
    assert len(EXAMPLES) >= 5


async def test_streaming_shows_the_whole_text(pair: Pair) -> None:
    shown = await _printed("stream.py", pair)
    async with AsyncClient(pair.target) as client:
        result = await client.generate("def main(", max_new_tokens=64)
    assert shown.startswith("def main(" + result.text)
    assert "drafted tokens were accepted" in shown


async def test_every_prompt_of_many_gets_its_text(pair: Pair) -> None:
    batch, single = await _printed("batch.py", pair), await _printed("asynchronous.py", pair)
    assert [f"--- {i}," in batch for i in range(6)] == [True] * 6
    assert len(single.splitlines()) == 12


async def test_verifying_by_oneself_gives_the_text_of_the_target(pair: Pair) -> None:
    async with AsyncClient(pair.target) as client:
        result = await client.generate("def main(", max_new_tokens=48, eos_token_id=[])
    assert await _printed("own_verification.py", pair) == f"def main({result.text}\n"


async def test_a_tool_is_called_and_its_answer_goes_back(pair: Pair) -> None:
    said = ['<tool_call>\n{"name": "multiply", "arguments": {"a": 17, "b": 23}}\n</tool_call>']

    def script(request: Any, context: Any) -> Any:
        chunk = piece(0, (1,), 1)
        chunk.chunk.text = said.pop() if said else "It is 391."
        yield from (started(request), chunk, finished(1))

    fake = FakeTarget(script).start()
    try:
        shown = await _run("chat_with_tools.py", replace(pair, target=fake.address))
    finally:
        fake.stop()
    assert shown.endswith("It is 391.\n")
    first, second = (request.prompts[0].chat for request in fake.requests)
    assert len(first.messages) == 1
    assert [m.role for m in second.messages] == ["user", "assistant", "tool"]
    assert second.messages[2].content == "391"


async def test_the_examples_are_told_of() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        assert "examples/" in _read(ROOT / document)
