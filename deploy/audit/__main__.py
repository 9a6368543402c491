"""Asks pip-audit whether versions in constraints.txt have known vulnerabilities.

    make audit                          # 1: there are some; 3: the database was not reached
    make audit ARGS=--note-unreached    # the second is noted, and is no failure

pip-audit itself finds none where it cannot reach its database: it calls every package unknown. This
counts what was looked up.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
_PROGRAM = ROOT / ".venv-audit" / "bin" / "pip-audit"
_LIMIT_S = 300
VULNERABLE, UNREACHED = 1, 3


def ask() -> tuple[Sequence[Any], str]:
    """Returns what pip-audit says of each package, and why it says nothing if it does not."""
    versions = ["--disable-pip", "--no-deps", "--requirement", str(ROOT / "constraints.txt")]
    command = [str(_PROGRAM), *versions, "--format", "json", "--progress-spinner", "off"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    try:
        return json.loads(told.stdout)["dependencies"], ""
    except ValueError:
        return [], (told.stderr.strip().splitlines() or ["it says nothing"])[-1]


def verdict(packages: Sequence[Any], reason: str = "") -> tuple[int, list[str]]:
    """Returns the exit status, and what there is to tell."""
    audited = [package for package in packages if "vulns" in package]
    unknown = [package["name"] for package in packages if "vulns" not in package]
    if not audited:
        why = reason or f"all {len(unknown)} packages are unknown to it"
        return UNREACHED, [f"NOT AUDITED: the database of pip-audit is not reached: {why}"]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for package in audited
        for found in package["vulns"]
    ]
    status = VULNERABLE if lines else 0
    lines.append(f"{len(audited)} packages are audited, {len(lines)} vulnerabilities are known")
    if unknown:
        lines.append(f"{len(unknown)} packages are not known: {', '.join(unknown)}")
    return status, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--note-unreached", action="store_true")
    given = parser.parse_args()
    status, lines = verdict(*ask())
    print(*lines, sep="\n")
    return 0 if status == UNREACHED and given.note_unreached else status


if __name__ == "__main__":
    sys.exit(main())
