"""Times the steps of a model that was just loaded, and so warms the device up.

This module knows nothing of what steps are for.
"""

import time

import torch

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.feed import Feed
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.step_times import StepTimes

# The widths that are timed; those in between are read off a line. After some time no wider one is.
_TIMED, _TIMING_S = (1, 2, 4, 8, 16, 32, 64, 128, 256), 1.0
# Steps of wider ones differ less, and would take most of a small model's start.
_THRICE = 16


def time_steps(rows: Rows, cache: CacheSpec | None = None) -> StepTimes:
    """Times steps of the widths that verification and trees have, and so warms the device up.

    Widths that were never timed would be judged by the far wider steps of prompts, and so never be
    tried.

    Args:
        rows: the model and its cache.
        cache: how the timed row is quantized. The memory of unquantized rows is then not allocated.
    """
    step_times, began = StepTimes(), time.perf_counter()
    with torch.inference_mode():
        for width in [w for w in _TIMED if w <= rows.capacity]:
            times = [step_s(rows, width, cache) for _ in range(3 if width <= _THRICE else 2)]
            step_times.observe(width, 1, min(times))
            if time.perf_counter() - began > _TIMING_S:
                break
    return step_times


def step_s(rows: Rows, width: int, cache: CacheSpec | None = None) -> float:
    """Returns the seconds that one step over `width` tokens takes."""
    began = time.perf_counter()
    logits = rows.forward([Feed(0, 0, [0] * width, cache=cache)], [width])
    logits.argmax(dim=-1).tolist()  # waits for the device
    return time.perf_counter() - began
