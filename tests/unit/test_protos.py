"""The wire's definitions are clean, every message and field has a comment, and v1 stays v1."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOS = ROOT / "protos"
(RELEASED,) = (PROTOS / "released").iterdir()


@pytest.mark.tool("buf")
def test_lint(tool: str) -> None:
    """buf's STANDARD rules and COMMENTS, see protos/buf.yaml."""
    result = subprocess.run(
        [tool, "lint", str(PROTOS)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.tool("buf")
def test_nothing_of_the_last_release_is_taken_back(tool: str) -> None:
    """Clients and services of different versions meet on the wire."""
    command = [tool, "breaking", str(PROTOS), "--against", str(RELEASED)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.tool("buf")
@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("repeated Prompt prompts = 2;", ""),
        ("repeated Prompt prompts = 2;", "repeated Prompt prompts = 222;"),
        ("optional uint64 seed = 4;", "optional int64 seed = 4;"),
        ("rpc Tokenize(", "rpc Encode("),
        ("FINISH_REASON_LENGTH = 1;", "FINISH_REASON_LIMIT = 1;"),
    ],
    ids=["removed", "renumbered", "of another type", "renamed", "an enum's name"],
)
def test_what_breaks_is_found(was: str, becomes: str, tool: str, tmp_path: Path) -> None:
    shutil.copytree(PROTOS, tmp_path / "protos")
    file = tmp_path / "protos" / "foredraft" / "v1" / "target.proto"
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, becomes, 1))
    command = [tool, "breaking", str(tmp_path / "protos"), "--against", str(RELEASED)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 100


def test_the_last_release_is_the_newest_in_the_changelog() -> None:
    """`make protos-released` keeps the wire of a new version."""
    versions = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert RELEASED.name == f"{versions[0]}.binpb"
