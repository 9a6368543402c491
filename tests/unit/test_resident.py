"""What a service needs of a CPU's memory follows what its rows hold, not what they could hold.

The resident set is that of a process that does nothing else.
"""

import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from foredraft_engine.feed import Feed
from foredraft_engine.model.loading import load
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.rows import PackedRows
from tests.models import bundled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the resident set is of Linux")

ROWS, CAPACITY, TOKENS, CHUNK = 16, 8192, 500, 250
MOST = 1.3


def _model() -> LlamaForCausalLM:
    """Returns a model whose tokens take 8 KiB each, far more than its passes do."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CAPACITY,
    )
    return LlamaForCausalLM(config).eval()


def _resident_bytes() -> int:
    """Returns the memory of this process that no file is behind."""
    told = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", told)
    assert found
    return int(found[1]) << 10


def _fill(rows: PackedRows, row: int, tokens: int) -> None:
    for start in range(0, tokens, CHUNK):
        rows.forward([Feed(row, start, [1] * min(CHUNK, tokens - start))], [1])


def _taken(fill: Callable[[PackedRows], None]) -> tuple[int, int]:
    """Returns the bytes that rows hold once filled, and the resident bytes that came with them."""
    torch.set_num_threads(1)
    model = _model()
    with torch.inference_mode():
        _fill(PackedRows(model, 1, CAPACITY), 0, 4 * TOKENS)  # whatever passes themselves keep
        before = _resident_bytes()
        rows = PackedRows(model, ROWS, CAPACITY)
        fill(rows)
        return sum(rows.row_bytes(row) for row in range(ROWS)), _resident_bytes() - before


def _partly(rows: PackedRows) -> None:
    for row in range(ROWS):
        _fill(rows, row, TOKENS)


def _after_long_texts(rows: PackedRows) -> None:
    for row in range(ROWS):
        _fill(rows, row, 4 * TOKENS)
        rows.forward([Feed(row, 1, [1] * (TOKENS - 1))], [1])  # all texts begin with one token


def _by_copies(rows: PackedRows) -> None:
    _fill(rows, 0, TOKENS)
    for row in range(1, ROWS):
        rows.copy_row(0, row, TOKENS)


def _in_steps_together(rows: PackedRows) -> None:
    """A short text beside long ones reads as many places as they do, and takes none of them."""
    for row in range(ROWS):
        _fill(rows, row, TOKENS if row % 2 else 2 * TOKENS - 1)
    rows.forward([Feed(r, TOKENS if r % 2 else 2 * TOKENS - 1, [1]) for r in range(ROWS)], [1] * 16)


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield pool


@pytest.mark.parametrize("fill", [_partly, _after_long_texts, _by_copies, _in_steps_together])
def test_rows_take_what_they_hold(
    fill: Callable[[PackedRows], None],
    process: ProcessPoolExecutor,
    measured: Callable[[str], None],
) -> None:
    held, taken = process.submit(_taken, fill).result(timeout=120)
    measured(f"{fill.__name__}: {taken / held:.2f} times what the rows hold ({held >> 20} MiB)")
    assert held >= ROWS * TOKENS * 8192
    assert taken <= MOST * held


def test_packed_weights_leave_the_file(tmp_path: Path) -> None:
    _model().save_pretrained(tmp_path)
    bundled("target").tokenizer.save_pretrained(tmp_path)
    maps, file = Path("/proc/self/maps"), str(tmp_path / "model.safetensors")
    loaded = load(str(tmp_path))
    assert file in maps.read_text()  # not copied
    assert pack_weights(loaded.module, 0)
    assert file not in maps.read_text()
