"""Measures what a quantized cache takes, costs and changes, for each backend and width: `make
bench-quantized`.

It runs on the bundled target in bfloat16. Bytes and times are those at 4096 tokens. Bytes are the
storages of what rows hold, and the peak of what they allocate in a pass over a token and five
proposed ones. The worst case is the pass in which the tail is longest and a group is quantized.
Perplexity is that of modules on which the pair was not trained, where each query sees quantized
what it would see in decoding, with a residual of 1, which is the worst. The texts are short because
the pair learned from short ones.

This module knows nothing of services.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.arena import MODELS
from benchmarks.report import grid
from demo import corpus
from foredraft_engine.cache.quantized_row import QuantizedRow
from foredraft_engine.cache.quantizers import BACKENDS
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.feed import Feed
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.model.rows import PackedRows

CONTEXT, PROPOSED, CHUNK = 4096, 5, 256
WORST = CONTEXT + 62  # a pass from here on quantizes a group
WINDOW, SKIPPED = (
    512,
    128,
)  # the tokens of a text; the first ones see little quantized and are not counted
SPECS = (
    CacheSpec("quanto", 4),
    CacheSpec("quanto", 4, axis_key=-1),
    CacheSpec("quanto", 2),
    CacheSpec("quanto", 2, axis_key=-1),
    *(CacheSpec("hqq", nbits) for nbits in BACKENDS["hqq"].nbits[::-1]),
    CacheSpec("hqq", 4, axis_value=1),
    CacheSpec("hqq", 2, axis_value=1),
    CacheSpec("fp8", 8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=40, help="held-out texts of 512 tokens")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(str(MODELS / "target"), dtype="bfloat16")
    texts = _texts(model, args.texts)
    with torch.inference_mode():
        dense = _Measured(model, None, texts)
        lines = [_line("dense", "", dense, dense)]
        for spec in SPECS:
            if BACKENDS[spec.backend].is_installed:
                lines.append(
                    _line(
                        f"{spec.backend}, {spec.nbits} bits",
                        _axes(spec),
                        _Measured(model, spec, texts),
                        dense,
                    )
                )
            else:
                lines.append((f"{spec.backend} IS NOT INSTALLED", *[""] * 8))
    print(f"{torch.get_num_threads()} threads, {len(texts)} texts, groups of 64 positions")
    print("residual_length: 128, of perplexities 1\n")
    head = (
        "cache",
        "axes",
        "resident bytes a token",
        "scratch",
        "both to fp16",
        "at worst",
        "perplexity",
        "difference",
    )
    print(grid((*head, f"a pass over {PROPOSED + 1} tokens, ms"), lines))


class _Measured:
    """All figures of one kind of cache."""

    def __init__(self, model: LoadedModel, spec: CacheSpec | None, texts: Sequence[Tensor]) -> None:
        rows = PackedRows(model.module, 1, CONTEXT + 128)
        ids = torch.cat(list(texts)).repeat(9)[: CONTEXT + 128].tolist()
        _feed(rows, ids[:CONTEXT], spec)
        self.scratch = _scratch_bytes(rows, ids, CONTEXT, spec) / CONTEXT
        if spec is None:
            self.resident = rows.row_bytes(0) / CONTEXT
            self.worst = self.resident
        else:
            self.resident = rows.row_bytes(0) / CONTEXT
            rows.forward([Feed(0, CONTEXT + 1, ids[CONTEXT + 1 : WORST], cache=spec)], [0])
            scratch_bytes = _scratch_bytes(rows, ids, WORST, spec)
            self.worst = (rows.row_bytes(0) + scratch_bytes) / WORST
        self.pass_s = statistics.median(
            _timed(rows, ids[WORST : WORST + PROPOSED + 1], spec) for _ in range(11)
        )
        worst = spec and replace(spec, residual_length=1)
        losses = [_losses(rows, text.tolist(), worst) for text in texts]
        self.perplexity = math.exp(torch.cat(losses).mean().item())


def _feed(rows: PackedRows, ids: Sequence[int], spec: CacheSpec | None) -> None:
    for at in range(0, len(ids), CHUNK):
        rows.forward([Feed(0, at, ids[at : at + CHUNK], cache=spec)], [0])


def _timed(rows: PackedRows, ids: Sequence[int], spec: CacheSpec | None) -> float:
    began = time.perf_counter()
    rows.forward([Feed(0, WORST, ids, cache=spec)], [len(ids)])
    return time.perf_counter() - began


def _losses(rows: PackedRows, ids: list[int], spec: CacheSpec | None) -> Tensor:
    """Returns the loss of each token after the first ones, float32 [n]."""
    losses = []
    for at in range(0, len(ids) - 1, CHUNK):
        chunk, then = ids[at : at + CHUNK], ids[at + 1 : at + CHUNK + 1]
        logits = rows.forward([Feed(0, at, chunk, cache=spec)], [len(chunk)])[: len(then)]
        losses.append(
            torch.nn.functional.cross_entropy(logits, torch.tensor(then), reduction="none")
        )
    return torch.cat(losses)[SKIPPED:]


def _texts(model: LoadedModel, count: int) -> list[Tensor]:
    """Returns beginnings of held-out modules that are long enough, then what follows in them."""
    _, held_out = corpus.split()
    ids = [torch.tensor(model.tokenizer(text)["input_ids"]) for text in held_out.values()]
    windows = [part for text in ids for part in text.split(WINDOW) if len(part) == WINDOW]
    return windows[:count]


def _scratch_bytes(rows: PackedRows, ids: Sequence[int], start: int, spec: CacheSpec | None) -> int:
    """Returns the peak of the bytes that a pass over a proposal allocates for a layer, and for
    masks in all.
    """
    peaks: list[int] = []
    with _watched(peaks):
        rows.forward([Feed(0, start, ids[start : start + PROPOSED + 1], cache=spec)], [1])
    seen = rows.cache.layout._visibilities.values() if rows.cache.layout else ()
    masks = sum(t.numel() * t.element_size() for one in seen for t in one.tensors)
    return max(peaks, default=0) + masks


@contextmanager
def _watched(peaks: list[int]) -> Iterator[None]:
    """Notes for each layer the peak of the bytes that a row allocates while it is written and while
    it is read.
    """
    kept = QuantizedRow.write, QuantizedRow.attend

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def then(*args: Any) -> Any:
            result, peak = _peak(lambda: method(*args))
            peaks.append(peak)
            return result

        return then

    QuantizedRow.write, QuantizedRow.attend = watched(kept[0]), watched(kept[1])  # type: ignore[method-assign]
    try:
        yield
    finally:
        QuantizedRow.write, QuantizedRow.attend = kept  # type: ignore[method-assign]


def _peak(work: Callable[[], Any]) -> tuple[Any, int]:
    """Returns the result of the work, and the peak of the bytes that were allocated meanwhile."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        result = work()
    events = profile.profiler.kineto_results.events()
    held = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return result, most


def _axes(spec: CacheSpec) -> str:
    return f"{spec.axis_key}, {spec.axis_value}" if BACKENDS[spec.backend].axes else ""


def _line(name: str, axes: str, measured: _Measured, dense: _Measured) -> tuple[str, ...]:
    share = (measured.resident + measured.scratch) / dense.resident
    difference = measured.perplexity / dense.perplexity - 1
    return (
        name,
        axes,
        f"{measured.resident:.0f}",
        f"{measured.scratch:.0f}",
        f"{share:.3f}",
        f"{measured.worst / dense.resident:.3f}",
        f"{measured.perplexity:.3f}",
        f"{difference:+.2%}",
        f"{measured.pass_s * 1e3:.1f}",
    )


if __name__ == "__main__":
    main()
