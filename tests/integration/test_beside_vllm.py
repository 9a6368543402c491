"""The benchmark beside vLLM in a very short form: it runs and says whom it leaves out."""

from pathlib import Path

import pytest

from benchmarks import beside_vllm
from benchmarks.arena import MODELS
from benchmarks.peers import VLLM_PYTHON

PLAN = beside_vllm.Plan(
    dtypes=("float32",),
    streams=(1, 2),
    texts=("plain", "quotes"),
    rivals=("eager", "batch", "continuous"),
    lookups=(4,),
    repetitions=1,
    new_tokens=8,
    flags=(),
    bare=True,
)


def measured(tmp_path: Path) -> str:
    return beside_vllm.run(PLAN, MODELS / "target", tmp_path, {"command": "a test"}).markdown


@pytest.mark.long
def test_without_its_environment_vllm_is_left_out_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside_vllm, "VLLM_PYTHON", tmp_path / "python")
    markdown = measured(tmp_path)
    assert "vLLM is LEFT OUT" in markdown
    for streams in PLAN.streams:
        assert f"| {streams} | foredraft |" in markdown
        for rival in ("one batch", "generate_batch"):
            (row,) = (
                line
                for line in markdown.splitlines()
                if line.startswith(f"| {streams} | transformers, {rival} |")
            )
            assert row.endswith(f"| {streams} of {streams} |"), "the texts are transformers' own"
    assert "1 stream: a round takes" in markdown


@pytest.mark.long
def test_vllm_takes_part(tmp_path: Path) -> None:
    if not VLLM_PYTHON.exists():
        pytest.skip("vLLM IS NOT INSTALLED, `make bench-vllm` does it: this test did not run")
    markdown = measured(tmp_path)
    assert "LEFT OUT" not in markdown
    for streams in PLAN.streams:
        for rival in ("eager", "ngram, k = 4"):
            assert f"| {streams} | vLLM, {rival} |" in markdown
