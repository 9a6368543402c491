"""A start has the weights of a local model read while it imports torch, and waits for nothing."""

import os
from pathlib import Path

import pytest

from foredraft_engine.model.read_ahead import read_ahead


def _asked(model: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the files that are asked for, each with the number of a piece."""
    names: list[str] = []

    def note(descriptor: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        names.append(f"{name} {start // length}")

    monkeypatch.setattr(os, "posix_fadvise", note)
    asking = read_ahead(model)
    asking.join(30)
    assert not asking.is_alive()
    return sorted(names)


def test_the_weights_of_a_directory_or_a_file_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.safetensors", "config.json", "b.gguf"):
        (tmp_path / name).write_bytes(b"0" * 200_000)
    pieces = ["a.safetensors 0", "a.safetensors 1", "b.gguf 0", "b.gguf 1"]
    assert _asked(str(tmp_path), monkeypatch) == pieces
    assert _asked(str(tmp_path / "b.gguf"), monkeypatch) == pieces[2:]


@pytest.mark.parametrize("model", ["", "an-owner/a-model", "/no/such/place", "x" * 5000])
def test_what_is_not_here_is_left_to_the_loading(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _asked(model, monkeypatch) == []
