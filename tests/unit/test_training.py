"""The training of the bundled pair, on next to nothing: the same seed gives the same pair."""

from pathlib import Path

import pytest

from demo import corpus, distill, measure, train

SMALL = [
    "--vocab",
    "300",
    "--target-steps",
    "2",
    "--draft-steps",
    "2",
    "--target-batch",
    "2",
    "--draft-batch",
    "2",
]


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = corpus.modules()
    training = {name: modules[name] for name in ("ast.py", "bdb.py", "copy.py")}
    monkeypatch.setattr(corpus, "split", lambda: (training, {"queue.py": modules["queue.py"]}))
    monkeypatch.setattr(measure, "NEW", 8)
    whole = train.model
    monkeypatch.setattr(train, "model", lambda hidden, layers, *more: whole(hidden // 4, 1, *more))
    monkeypatch.setattr(distill, "_ROWS", 4)


def _train(folder: Path, seed: int) -> list[bytes]:
    train.main(
        [*SMALL, "--continuations", "1", "--places", "1", "--seed", str(seed), "--out", str(folder)]
    )
    return [(folder / name / "model.safetensors").read_bytes() for name in ("target", "draft")]


def test_a_seed_repeats_itself_and_the_script_says_what_it_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again, other = (_train(tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))
    assert first == again
    assert first != other
    told = capsys.readouterr().out
    for name in ("target:", "draft:", "held out", "temperature 0.0: mean acceptance length"):
        assert name in told
