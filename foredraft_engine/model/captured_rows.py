"""Lets the passes of packed rows be recorded, and proves that replays give the same logits.

This module knows nothing of architectures: it compares logits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft_engine.capture.captured_passes import CapturedPasses
from foredraft_engine.capture.recorder import CudaRecorder, Recorder
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.model.proof import disagreement
from foredraft_engine.model.rows import PackedRows, Rows

# The places at which two passes of one bucket begin.
_STARTS = (9, 14)


def capture_rows(rows: Rows, wanted: str, recorder: Recorder | None = None) -> str:
    """Lets passes be recorded, if that is right for the model.

    Args:
        wanted: the choice of `--compile`; "off" leaves all as it is.
        recorder: records on the device of the rows; None for that of CUDA, if they are there.

    Returns:
        Why passes are not recorded; empty if they are.
    """
    if wanted == "off":
        return "--compile is off"
    if not isinstance(rows, PackedRows):
        return f"passes over {rows.layout} rows are not recorded"
    if recorder is None:
        if rows.device.type != "cuda":
            return f"passes are recorded on CUDA alone, and this is {rows.device}"
        recorder = CudaRecorder(rows.device)
    passes = CapturedPasses(rows.run_pass, recorder, rows.count, rows.cache.capacity)
    with torch.inference_mode():
        expected = [_logits(rows, feeds) for feeds in _examples(rows)]
        rows.captured = passes
        for feeds, want in zip(_examples(rows), expected, strict=True):
            # The first time runs the pass, the second records it, and the third replays it.
            for _ in range(3):
                got = _logits(rows, feeds)
                if difference := disagreement(got, want):
                    passes.leave(difference)
                if passes.reason:
                    rows.captured = None
                    return passes.reason
    return ""


def _examples(rows: PackedRows) -> list[list[Feed]]:
    """Returns the feeds of passes: two with other numbers for each bucket."""
    found: list[list[Feed]] = []
    for start in _STARTS:
        found.append([Feed(0, 0, range(1, start + 1))])
        found.append([Feed(0, start, [3 + start])])
        found.append([Feed(0, start, range(start, start + 5))])
        if rows.spare >= 2:
            tree = Tree.with_alternatives(start, 2, [0])
            found.append([Feed(0, start, [5, 6, start], tree)])
        if rows.count > 1:
            found.append([Feed(1, 0, range(2, start + 2))])
            found.append([Feed(0, start, [7]), Feed(1, start, [8, start])])
    return found


def _logits(rows: PackedRows, feeds: Sequence[Feed]) -> Tensor:
    dtype = next(rows.model.parameters()).dtype
    return rows.forward(feeds, [len(feed.ids) for feed in feeds]).to(dtype)
