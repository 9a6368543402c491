"""Programs that a fresh machine may lack."""

import os
import shutil
from pathlib import Path

import pytest

MODULES = Path(__file__).resolve().parent.parent / ".tools" / "node_modules"
"""Where `.ci/run` installs packages of npm."""


def find(name: str) -> str:
    """Returns the path of a program. Without it the test is skipped loudly, or fails where tools
    are required.
    """
    found = shutil.which(name, path=f"{MODULES / '.bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("FOREDRAFT_REQUIRE_TOOLS"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} IS NOT INSTALLED: this test did not run")
    return found
