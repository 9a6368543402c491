"""Decoding and validation under a fuzzer that is guided by coverage, for ten seconds a door."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.validation import doors
from tests.integration.processes import ROOT, environment

_FUZZ_S = int(os.environ.get("FUZZ_S", "10"))
_DONE = re.compile(r"DONE\s+cov: (\d+) ft: \d+ corp: (\d+)/")
_RUNS = re.compile(r"Done (\d+) runs")
_MEMORY = re.compile(r"stat::peak_rss_mb:\s+(\d+)")


@pytest.mark.long
@pytest.mark.parametrize("door", ["target", "draft", "answers"])
def test_what_a_fuzzer_finds_is_refused(door: str, measured: Callable[[str], None]) -> None:
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("FOREDRAFT_REQUIRE_TOOLS"):
            pytest.fail("atheris is not installed")
        pytest.skip("atheris HAS NO WHEEL FOR THIS MACHINE: this test did not run")
    command = [sys.executable, "-m", "tests.hostile.fuzz", door, "--seconds", str(_FUZZ_S)]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found = [pattern.search(ended.stderr) for pattern in (_DONE, _RUNS, _MEMORY)]
    done, runs, memory = found
    assert done and runs and memory, ended.stderr[-3000:]  # noqa: PT018
    measured(
        f"fuzzing {door} for {_FUZZ_S} s: {runs[1]} inputs, {done[2]} in the corpus, "
        f"{done[1]} places of the code reached, {memory[1]} MiB at most"
    )


@pytest.mark.parametrize("door", ["target", "draft", "answers"])
def test_what_a_fuzzer_found_before_is_refused(
    door: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    enter = doors(tmp_path)[door]
    kept = (ROOT / "tests" / "hostile" / "corpus" / f"{door}.txt").read_text().split()
    for line in kept:
        enter(bytes.fromhex(line))
    measured(f"corpus of {door}: {len(kept)} inputs")
