"""A service whose forward passes take a set time, whatever their width, as on an accelerator with room to spare.

python -m benchmarks.emulated target 40 --model ...     # 40 ms for every step

It waits where an accelerator would compute, after the CPU has computed the same: the tokens are real. Knows nothing
of the services but their names.
"""

import runpy
import sys
import time
from collections.abc import Sequence

from torch import Tensor

from decoding.cache import Feed
from decoding.rows import PackedRows


def pace(step_s: float) -> None:
    """From now on, every forward pass over packed rows takes so long."""
    compute = PackedRows.forward

    def forward(self: PackedRows, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        began = time.perf_counter()
        logits = compute(self, feeds, scored)
        if (rest_s := began + step_s - time.perf_counter()) > 0:
            time.sleep(rest_s)
        return logits

    PackedRows.forward = forward  # type: ignore[method-assign]


if __name__ == "__main__":
    kind, step_ms = sys.argv[1:3]
    pace(float(step_ms) / 1e3)
    sys.argv = [f"{kind}_service", *sys.argv[3:]]
    runpy.run_module(f"{kind}_service", run_name="__main__", alter_sys=True)
