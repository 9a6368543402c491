"""The wire's definitions are clean, and every message and field has a comment."""

import subprocess
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parent.parent.parent / "protos"


@pytest.mark.tool("buf")
def test_lint(tool: str) -> None:
    """buf's STANDARD rules and COMMENTS, see protos/buf.yaml."""
    result = subprocess.run([tool, "lint", str(PROTOS)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
