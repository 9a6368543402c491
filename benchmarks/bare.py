"""Times bare forward passes of a model in foredraft's own rows: what a round would cost if all else
were free.

A worker times them on its core, and `BareTimes` collects its times. This module knows nothing of
proposals.
"""

import argparse
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.worker import Worker, serve
from foredraft_engine.feed import Feed
from foredraft_engine.model.joined_linears import join_linears
from foredraft_engine.model.loading import load
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.traced_rows import trace_rows

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 17, 21)
_ROWS, _CAPACITY = 16, 2048  # the default of a service for this model


class BareTimes:
    """Times of forward passes by their width in tokens, as they come in over a run."""

    def __init__(self, worker: Worker, length: int, widths: tuple[int, ...] = WIDTHS) -> None:
        """Begins to collect. length: the number of tokens that the row holds."""
        self._worker, self._length = worker, length
        self._times_s: dict[int, list[float]] = {width: [] for width in widths}

    def measure(self, *widths: int, repetitions: int = 1) -> None:
        """Times some widths once more; None times all."""
        for width in widths or tuple(self._times_s):
            job = {"width": width, "length": self._length, "repetitions": repetitions}
            self._times_s[width] += self._worker.ask(**job)["times_s"]

    def fastest_s(self, width: float) -> float:
        """Returns the fastest pass of a width, interpolated between widths that were timed."""
        return self._between(width, min)

    def _between(self, width: float, of: Callable[[list[float]], float]) -> float:
        widths = [w for w, times in self._times_s.items() if times]
        right = min(bisect_left(widths, width), len(widths) - 1)
        left = right if widths[right] == width else max(right - 1, 0)
        a, b = widths[left], widths[right]
        a_s, b_s = of(self._times_s[a]), of(self._times_s[b])
        return b_s if a == b else a_s + (b_s - a_s) * (width - a) / (b - a)

    def median_s(self, width: float) -> float:
        """Returns the median pass of a width, interpolated like the fastest."""
        return self._between(width, statistics.median)

    def table_ms(self) -> dict[str, tuple[float, float]]:
        """Returns fastest and median pass of every width that was timed, in milliseconds."""
        return {
            str(w): (min(t) * 1e3, statistics.median(t) * 1e3)
            for w, t in self._times_s.items()
            if t
        }


class _Forward:
    def __init__(self, folder: Path, dtype: str) -> None:
        model = load(str(folder), dtype=dtype)
        self._weights_bytes = sum(p.numel() * p.element_size() for p in model.module.parameters())
        join_linears(model.module)
        pack_weights(model.module)
        proved = prove_rows(model.module, model.text_config, _CAPACITY)
        self._rows = proved.make(_ROWS, _CAPACITY)
        trace_rows(self._rows, "auto")  # as a service does
        self._held = (0, 0)

    @torch.inference_mode()
    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        if job.get("reads"):
            return {"times_s": self._reads_s(job["repetitions"])}
        length, width, rows = job["length"], job["width"], range(job.get("rows", 1))
        if self._held != (length, len(rows)):
            self._rows.forward([Feed(row, 0, range(length)) for row in rows], [0] * len(rows))
            self._held = (length, len(rows))
        ids, times_s = list(range(width)), []
        feeds = [Feed(row, length, ids) for row in rows]
        for _ in range(job["repetitions"] + 1):
            began = time.perf_counter()
            self._rows.forward(feeds, [width] * len(rows))
            times_s.append(time.perf_counter() - began)
        return {"times_s": times_s[1:]}  # the first pass found the caches full of something else

    def _reads_s(self, repetitions: int) -> list[float]:
        """Times the reading of as many bytes as the weights have."""
        memory, times_s = torch.ones(self._weights_bytes // 4), []
        for _ in range(repetitions + 1):
            began = time.perf_counter()
            memory.sum()
            times_s.append(time.perf_counter() - began)
        return times_s[1:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve(_Forward(args.model, args.dtype).answer)
