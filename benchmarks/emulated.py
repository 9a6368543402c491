"""Runs a service whose steps take a set time, whatever their width, as on an accelerator with room
to spare.

    python -m benchmarks.emulated target 40 --model ...     # 40 ms for every step

It waits where an accelerator would compute, after the CPU has computed the same: the tokens are
real. This module knows nothing of the services but their names.
"""

import runpy
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from foredraft_engine.job import Job
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling import device_thread, step_timing
from foredraft_engine.scheduling.step import StepResult


def pace(step_s: float) -> None:
    """Makes every step from now on take `step_s` seconds."""
    compute = vars(device_thread)["step"]

    def step(rows: Rows, jobs: Sequence[Job], vocabulary_size: int) -> StepResult:
        began = time.perf_counter()
        made: StepResult = compute(rows, jobs, vocabulary_size)
        if (rest_s := began + step_s - time.perf_counter()) <= 0:
            return made
        time.sleep(rest_s)
        return replace(made, logits_s=made.logits_s + rest_s)

    vars(device_thread)["step"] = step
    step_timing.step_s = lambda rows, width, cache=None: step_s


if __name__ == "__main__":
    kind, step_ms = sys.argv[1:3]
    pace(float(step_ms) / 1e3)
    sys.argv = [f"{kind}_service", *sys.argv[3:]]
    runpy.run_module(f"{kind}_service", run_name="__main__", alter_sys=True)
