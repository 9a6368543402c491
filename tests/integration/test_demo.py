"""The demonstration runs from beginning to end, also where nothing can be fetched."""

import subprocess
import sys

import pytest

from demo import run
from demo.pair import bundled_pair
from demo.real_model import RealModelError
from demo.table import Row, table
from tests.integration.processes import ROOT


def test_it_shows_an_answer_and_how_fast_it_came() -> None:
    command = [sys.executable, "-m", "demo.run", "--bundled", "--max-new-tokens", "24"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, "services log into files"
    shown = done.stdout
    assert "def __init__(self, filename):\n" in shown
    for way in ("transformers", "transformers, prompt lookup", "foredraft, no assistance"):
        (rates,) = [line for line in shown.splitlines() if line.startswith(f"{way}  ")]
        assert float(rates.split()[-1]) > 0
    assert "equal to foredraft, no assistance" in shown
    for log in ("draft", "target", "transformers"):
        assert (run.LOGS / f"{log}.log").exists()
    assert str(run.LOGS) in shown


def test_what_cannot_be_fetched_has_something_in_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(drafted: bool) -> None:
        raise RealModelError("the index was not reached")

    monkeypatch.setattr(run, "real_pair", none)
    assert run.pair_of(bundled=False) == bundled_pair()
    assert "the index was not reached" in capsys.readouterr().out


def test_a_question_of_ones_own_is_asked_as_the_pair_is_asked() -> None:
    (question,) = bundled_pair().asked("import os\n").questions
    assert question.prompt == "import os\n"


def test_the_table_tells_texts_that_differ() -> None:
    assisted = Row("foredraft", ((1, 2), (3, 4)), (1.0, 0.5), (3.0, 0.25), (2.0, 1.5))
    plain = Row("no assistance", ((1, 2), (3, 5)), (2.0, 1.0))
    rival = Row("rival", ((1, 2), (3, 4)), (4.0, 1.0))
    lines = [line.split() for line in table(["one", "two"], assisted, plain, [rival]).splitlines()]
    assert lines == [
        ["tokens/s", "one", "two"],
        ["rival", "0.5", "2.0"],
        ["no", "assistance", "1.0", "2.0"],
        ["foredraft", "2.0", "4.0"],
        ["tokens", "proposed", "in", "a", "round", "3.00", "0.25"],
        ["mean", "acceptance", "length", "2.00", "1.50"],
        ["equal", "to", "no", "assistance", "yes", "NO"],
        ["equal", "to", "rival", "yes", "yes"],
    ]
