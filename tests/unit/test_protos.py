"""The wire's definitions are clean, every message and field has a comment, and v1 stays v1."""

import subprocess
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parent.parent.parent / "protos"


@pytest.mark.tool("buf")
def test_lint(tool: str) -> None:
    """buf's STANDARD rules and COMMENTS, see protos/buf.yaml."""
    result = subprocess.run(
        [tool, "lint", str(PROTOS)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.tool("buf")
def test_nothing_of_v1_is_taken_back(tool: str) -> None:
    """Clients and services of different versions meet on the wire, and v1.binpb is what they were
    promised.
    """
    command = [tool, "breaking", str(PROTOS), "--against", str(PROTOS / "v1.binpb")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
