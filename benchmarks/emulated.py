"""A service whose steps take a set time, whatever their width, as on an accelerator with room to spare.

python -m benchmarks.emulated target 40 --model ...     # 40 ms for every step

It waits where an accelerator would compute, after the CPU has computed the same, forward pass and drawing or
verification: the tokens are real. Knows nothing of the services but their names.
"""

import runpy
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from decoding import engine, starting
from decoding.cache import Feed
from decoding.rows import PackedRows


def pace(step_s: float) -> None:
    """From now on, every step over packed rows takes so long."""
    compute, ends = PackedRows.forward, [0.0]

    def forward(self: PackedRows, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        ends[0] = time.perf_counter() + step_s
        logits = compute(self, feeds, scored)
        if not any(scored):
            _wait(ends[0])  # nothing is made of the logits of a prompt
        return logits

    def paced(work: Callable[..., Any]) -> Callable[..., Any]:
        def then(*args: Any) -> Any:
            made = work(*args)
            _wait(ends[0])
            return made

        return then

    PackedRows.forward = forward  # type: ignore[method-assign]
    starting.step_s = lambda rows, width, cache=None: step_s
    for name in ("verify_jobs", "draft_jobs", "ahead_jobs"):
        setattr(engine, name, paced(getattr(engine, name)))


def _wait(until: float) -> None:
    if (rest_s := until - time.perf_counter()) > 0:
        time.sleep(rest_s)


if __name__ == "__main__":
    kind, step_ms = sys.argv[1:3]
    pace(float(step_ms) / 1e3)
    sys.argv = [f"{kind}_service", *sys.argv[3:]]
    runpy.run_module(f"{kind}_service", run_name="__main__", alter_sys=True)
