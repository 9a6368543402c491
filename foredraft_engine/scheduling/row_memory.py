"""Plans the rows of a model from the memory that is free beside its weights, and says so.

This module knows nothing of weights or of services.
"""

import logging

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import ModelError
from foredraft_engine.model.free_memory import free_bytes
from foredraft_engine.model.proof import ProvedRows
from foredraft_engine.scheduling.model_settings import ModelSettings
from foredraft_engine.scheduling.row_plan import RowLimits, RowPlan, plan_rows, rows_text, size_text

log = logging.getLogger(__name__)

# More rows make each wait longer for a step than they gain together.
_MOST_ROWS, _MOST_ROWS_OF_CPU = 64, 16
_SHARE = 0.8  # of what is free


def plan_memory(
    proved: ProvedRows, settings: ModelSettings, longest: int, cache: CacheSpec | None
) -> RowPlan:
    """Plans the rows that fit the memory that the weights have left free.

    Raises:
        ModelError: they do not fit, or more is asked for than is free.
    """
    device = next(proved.model.parameters()).device
    most_rows = _MOST_ROWS_OF_CPU if device.type == "cpu" else _MOST_ROWS
    token_bytes, free = proved.token_bytes(longest, cache), free_bytes(device)
    if settings.memory > free:
        raise ModelError(
            f"memory: {size_text(settings.memory)} for rows are more than the {size_text(free)} "
            f"that are free on {device} beside the weights; use a smaller --memory, or free memory"
        )
    budget = settings.memory or int(free * (settings.memory_share or _SHARE))
    bound = "--memory" if settings.memory else "--memory-share"
    limits = RowLimits(budget, bound, token_bytes, longest, most_rows, proved.spare)
    plan = plan_rows(limits, settings.rows, settings.max_length)
    log.info(
        "memory: %s are free on %s, %s of them for rows: %d tokens of %d bytes; planned: %s, "
        "together %d, which take up to %s once they are filled",
        size_text(free),
        device,
        size_text(budget),
        budget // token_bytes,
        token_bytes,
        rows_text(plan.rows, plan.length),
        plan.rows * plan.length,
        size_text(plan.rows * (plan.length + proved.spare) * token_bytes),
    )
    return plan
