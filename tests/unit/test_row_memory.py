"""The memory of rows is bounded by --memory or by a share of what is free, and the plan is told."""

from typing import Any

import pytest

from draft_service.settings import DraftSettings
from foredraft_engine.errors import ModelError
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import start_engine
from foredraft_serving.memory_size import MemorySize
from tests.models import MODELS


async def _planned(**settings: Any) -> tuple[int, int]:
    """Returns the rows of a started engine, and their length."""
    chosen = DraftSettings(model=str(MODELS / "draft"), **settings)
    loaded = await start_engine(str(chosen.model), chosen, Callbacks())
    loaded.engine.close()
    return loaded.engine.rows.count, loaded.engine.rows.capacity


async def test_memory_bounds_the_rows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "foredraft_engine")
    rows, length = await _planned(memory=MemorySize("4MiB"))
    plenty = await _planned()
    assert rows * length < plenty[0] * plenty[1]
    assert f"4 MiB of them for rows: {(4 << 20) // 1024} tokens of 1024 bytes" in caplog.text
    assert f"planned: {rows} rows of {length} tokens, together {rows * length}," in caplog.text


async def test_more_memory_than_is_free_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^memory: 909 TiB for rows are more than the .* G"):
        await _planned(memory=MemorySize("1000TB"))


async def test_rows_that_memory_does_not_hold_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^rows: 100 rows of 64 tokens .* a larger --memory, or"):
        await _planned(memory=MemorySize("1MiB"), rows=100)
