"""The benchmark in a very short form: it runs and is fair, whatever it finds."""

import copy
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import distance
from benchmarks.arena import CORES, MODELS, Course, RealPair, prompts
from benchmarks.one_stream import run
from benchmarks.rival import InProcess
from benchmarks.runs import Assist, Prompt, Sampling
from benchmarks.summary import loops
from benchmarks.widening import difference, widen
from benchmarks.worker import Worker
from tests.models import bundled, stock
from tests.premises import begins_again, in_time

WIDE = 1024
COURSE = Course(
    prompts=2,
    new_tokens=10,
    repetitions=1,
    tuning_prompts=1,
    ks=(2, 3),
    thresholds=(0.0,),
    lookups=(3,),
    budgets=(0, 3),
    everybody=False,
    size=WIDE,
)


@pytest.fixture(scope="module")
def texts() -> list[Prompt]:
    return prompts(2)


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    folder = tmp_path_factory.mktemp("wide")
    widen(MODELS / "target", folder, WIDE)
    return InProcess(folder, MODELS / "draft")


def ask(
    rival: InProcess, prompt: Prompt, assist: Assist, temperature: float = 0.0
) -> dict[str, Any]:
    sampling = Sampling(temperature, 24)
    return rival.answer({"ids": prompt.ids, "assist": asdict(assist), "sampling": asdict(sampling)})


def test_a_widened_model_computes_the_same(rival: InProcess, texts: list[Prompt]) -> None:
    """The models are in float64, since the order of sums in fp32 depends on the processor."""
    narrow: Any = stock(bundled("target").module)  # other tests give it rows
    wide = copy.deepcopy(rival.target)
    assert wide.config.intermediate_size == WIDE
    narrow, wide = narrow.double(), wide.double()
    assert all(difference(narrow, wide, list(text.ids)) < 1e-5 for text in texts)


def test_options_reach_the_assistant(rival: InProcess, texts: list[Prompt]) -> None:
    plain = ask(rival, texts[0], Assist())
    assert (plain["proposed"], plain["rounds"], plain["draft_forwards"]) == (
        0,
        len(plain["ids"]),
        0,
    )
    three, eight = (ask(rival, texts[0], Assist("model", k)) for k in (3, 8))
    for answer, k in ((three, 3), (eight, 8)):
        # The end of the text cuts the last proposals.
        assert k * (answer["rounds"] - 3) < answer["proposed"] <= k * answer["rounds"]
        assert answer["draft_forwards"] == answer["proposed"]
        assert answer["ids"] == plain["ids"]
    stopped = ask(rival, texts[0], Assist("model", 8, 0.4))
    assert stopped["proposed"] / stopped["rounds"] < eight["proposed"] / eight["rounds"] - 1
    assert ask(rival, texts[0], Assist("lookup", 3))["drafts"] > 0


def test_sampling_follows_the_seed(rival: InProcess, texts: list[Prompt]) -> None:
    one, again = (ask(rival, texts[1], Assist("model", 3), 0.7)["ids"] for _ in range(2))
    assert one == again != ask(rival, texts[1], Assist())["ids"]


def test_workers_stay_on_their_cores(tmp_path: Path) -> None:
    job = {"width": 2, "length": 8, "repetitions": 1}
    with Worker(
        "benchmarks.bare", CORES[:1], tmp_path / "log", "--model", str(MODELS / "draft")
    ) as worker:
        assert worker.ask(**job)["times_s"][0] > 0
        threads = [int(task.name) for task in Path(f"/proc/{worker.pid}/task").iterdir()]
        assert all(os.sched_getaffinity(thread) == {CORES[0]} for thread in threads)


@pytest.mark.long
@begins_again
def test_the_whole_in_short(tmp_path: Path) -> None:
    real = RealPair(MODELS / "target", MODELS / "draft", tuple(prompts(1)))
    report, exact = run(COURSE, tmp_path, {"command": "a test"}, real)
    assert exact
    greedy, sampled, of_real, _ = report.tables
    assert [table.title for table in report.tables] == [
        "Greedy",
        "Temperature 0.7",
        "A real model and its draft. Greedy",
        "A real model and its draft. Temperature 0.7",
    ]
    names = {line.name for line in of_real.lines}
    assert {"transformers, plain", "foredraft, n-grams", "foredraft, model draft"} <= names
    assert "transformers, assistant model" not in names, "it cannot run a reduced vocabulary"
    for line in (*greedy.lines, *sampled.lines):
        assert line.tokens_per_s.low > 0
        in_time(line.fallbacks == 0, line)
        assert line.acceptance_length >= 1
        assert line.acceptance_length == 1 or not line.name.endswith("plain")
    assert all(line.equal_texts == COURSE.prompts for line in greedy.lines)
    assert any(
        line.acceptance_length > 1 for line in greedy.lines if line.name.startswith("foredraft")
    )
    plain, drafted, *_ = report.budgets
    assert plain.draft_parts_ms == {}
    assert sum(drafted.draft_parts_ms.values()) == pytest.approx(
        drafted.parts_ms["target: waiting for the block"], rel=1e-6
    )
    assert "| foredraft, model draft | 1 + 1 |" in report.markdown()


@pytest.mark.long
def test_free_text_in_short(tmp_path: Path) -> None:
    target = shutil.copytree(MODELS / "target", tmp_path / "target")
    (target / "chat_template.jinja").write_text("{{ messages[0].content }}")
    short = ["--questions", "2", "--tokens", "16", "--ahead"]
    pair = ["--target", str(target), "--draft", str(MODELS / "draft")]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.free_text", *short, *pair],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.stdout.count("| 2 of 2 |") == 4, ran.stdout


@pytest.mark.long
@begins_again
def test_json_in_short(tmp_path: Path) -> None:
    target = shutil.copytree(MODELS / "target", tmp_path / "target")
    (target / "chat_template.jinja").write_text("{{ messages[0].content }}")
    pair = ["--target", str(target), "--draft", str(MODELS / "draft")]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.grammar", "--questions", "2", "--tokens", "40", *pair],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.stdout.count("| 2 of 2 |") == 5, ran.stdout


@pytest.mark.long
@begins_again
def test_distance_in_short(tmp_path: Path) -> None:
    laws = (Sampling(0.0, 16),)
    real = RealPair(MODELS / "target", MODELS / "draft", tuple(prompts(2)))
    plan = distance.Plan((0.0, 20.0), laws, prompts=2, crowds=(2,), pairs=1, size=WIDE, real=real)
    section = distance.run(plan, tmp_path, {"command": "a test"})
    rows = section.raw["emulated"]
    at = {(row.way, row.rtt_ms): row for row in rows}
    assert len(at) == 6
    assert all(row.floor_share > 0 for row in rows)
    in_time(all(row.floor_share <= 1.1 for row in rows), rows)
    near, far = at["synchronous", 0.0], at["synchronous", 20.0]
    assert far.times_ms["r"] > near.times_ms["r"] + 15, "the proxy delays"
    in_time(at["pushed", 0.0].hit_rate > 0, at["pushed", 0.0])
    in_time(at["pushed", 20.0].hidden > far.hidden, (at["pushed", 20.0], far))
    assert "always wrong" in section.markdown
    assert {(row.way, row.rtt_ms) for row in section.raw["real model"]} == at.keys()
    assert "A real model and its draft" in section.markdown


@pytest.mark.long
def test_strategies_in_short() -> None:
    command = [sys.executable, "-m", "benchmarks.strategies", "--quick", "--only", "beam search"]
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=300
    ).stdout
    assert "| beam search |" in printed
    assert "| 2 of 2 |" in printed, "the texts are transformers' own"


def test_a_loop_is_a_tail_that_repeats() -> None:
    assert loops([*range(40), *[1, 2, 3] * 12])
    assert not loops(list(range(64)))
