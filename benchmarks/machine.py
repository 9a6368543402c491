"""Describes what a benchmark ran on: processor, memory, versions, commit.

This module knows nothing of what ran.
"""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "transformers", "grpcio")


def describe(command: str) -> dict[str, str]:
    """Returns names and values for a report. command: the command that was run."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return {
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, "
        f"{memory_gib:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.2f} before the run",
        "versions": f"Python {platform.python_version()}, {packages}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "command": command,
    }


def _commit() -> str:
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
