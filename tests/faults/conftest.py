"""The table that the fault suite fills."""

from collections.abc import Callable

import pytest

from tests.faults.table import FaultTable


@pytest.fixture(scope="session")
def fault_table(measured: Callable[[str], None]) -> FaultTable:
    """Returns the table, which stands at the end of the run."""
    return FaultTable(measured)
