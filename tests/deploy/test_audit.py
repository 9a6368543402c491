"""An audit tells vulnerable packages from a database that nobody asked."""

from typing import Any

import pytest

from deploy.audit.__main__ import UNREACHED, VULNERABLE, verdict

_CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
_UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited"}
_BAD = {
    "name": "torch",
    "version": "2.13.0",
    "vulns": [{"id": "CVE-2099-1", "fix_versions": ["2.13.1"], "aliases": [], "description": ""}],
}


@pytest.mark.parametrize(
    ("packages", "reason", "status", "told"),
    [
        ([_CLEAN], "", 0, "1 packages are audited, 0 vulnerabilities are known"),
        ([_CLEAN, _BAD], "", VULNERABLE, "torch 2.13.0: CVE-2099-1, mended in 2.13.1"),
        ([_CLEAN, _UNKNOWN], "", 0, "1 packages are not known: ours"),
        ([_UNKNOWN], "", UNREACHED, "NOT AUDITED: the database of pip-audit is not reached"),
        ([], "no route to host", UNREACHED, "is not reached: no route to host"),
    ],
    ids=["clean", "vulnerable", "one unknown", "all unknown", "no answer"],
)
def test_verdict(packages: list[Any], reason: str, status: int, told: str) -> None:
    found, lines = verdict(packages, reason)
    assert found == status
    assert told in "\n".join(lines)
