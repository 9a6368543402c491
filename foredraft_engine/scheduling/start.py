"""Starts an engine from the name of a model: loads it, proves its rows, starts the device thread.

This module knows nothing of services. Their settings have the fields of `ModelSettings`.
"""

import logging
import sys
import time
from dataclasses import dataclass
from typing import Protocol

import torch

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed
from foredraft_engine.model.free_memory import free_bytes, trim_heap
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import ProvedRows, prove_rows
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.row_plan import RowLimits, RowPlan, plan_rows, size_text
from foredraft_engine.scheduling.step_times import WIDTHS, StepTimes

log = logging.getLogger(__name__)

# More rows make each wait longer for a step than they gain together.
_MOST_ROWS, _MOST_ROWS_OF_CPU = 64, 16
# How long a thread that computes keeps the interpreter from one that waits. Python's default of
# 5 ms is ten times a round trip between the services.
_SWITCH_S = 0.0005
# The widest step that is timed, and the time after which no wider one is.
_TIMED_TOKENS, _TIMING_S = 256, 2.0


class ModelSettings(Protocol):
    """The settings of a service that concern its model."""

    @property
    def revision(self) -> str | None: ...
    @property
    def trust_remote_code(self) -> bool: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def memory_share(self) -> float: ...
    @property
    def chunk_tokens(self) -> int: ...
    @property
    def packed_weights(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A model and the engine that runs it."""

    engine: Engine
    model: LoadedModel


def load_engine(
    name: str,
    settings: ModelSettings,
    callbacks: Callbacks,
    spare: int = 0,
    cache: CacheSpec | None = None,
) -> LoadedEngine:
    """Loads a model, starts its engine, and logs a summary.

    Args:
        name: a model directory or a hub id.
        settings: the service's settings.
        callbacks: what the device thread calls.
        spare: places of every row beyond its length, for branches.
        cache: how a row is quantized if a call does not say; None for unquantized rows.

    Raises:
        ModelError: the model cannot be loaded or served.
    """
    sys.setswitchinterval(_SWITCH_S)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = load(
        name,
        device=settings.device,
        dtype=settings.dtype,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )
    # Counted before packing: a packed weight is no parameter any more.
    parameters = sum(p.numel() for p in model.module.parameters())
    try:
        packed = pack_weights(model.module) if settings.packed_weights else 0
        engine = _engine(model, settings, callbacks, spare, cache)
    except ModelError:
        raise
    except Exception as error:  # a model's own code raises what it likes
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise ModelError(
            f"cannot serve {name!r}: its own forward pass fails: {reason}; use another model"
        ) from error
    _log_summary(model, settings, engine.rows, parameters, packed)
    return LoadedEngine(engine, model)


def _engine(
    model: LoadedModel,
    settings: ModelSettings,
    callbacks: Callbacks,
    spare: int,
    cache: CacheSpec | None,
) -> Engine:
    """Proves the rows of a loaded model, times its steps and starts its engine."""
    longest = min(settings.max_length or model.max_length, model.max_length)
    proved = prove_rows(model.module, model.text_config, longest, spare)
    trim_heap()
    plan = _plan(proved, settings, longest, cache)
    rows = proved.make(plan.rows, plan.length)
    return Engine(
        rows,
        model.known_ids,
        chunk_tokens=settings.chunk_tokens,
        callbacks=callbacks,
        step_times=time_steps(rows, cache if rows.quantizes else None),
    )


def _plan(
    proved: ProvedRows, settings: ModelSettings, longest: int, cache: CacheSpec | None
) -> RowPlan:
    """Plans the rows that fit the memory that the weights have left free."""
    device = next(proved.model.parameters()).device
    most_rows = _MOST_ROWS_OF_CPU if device.type == "cpu" else _MOST_ROWS
    token_bytes, free = proved.token_bytes(longest, cache), free_bytes(device)
    budget = int(free * settings.memory_share)
    limits = RowLimits(budget, token_bytes, longest, most_rows, proved.spare)
    plan = plan_rows(limits, settings.rows, settings.max_length)
    log.info(
        "memory: %s are free on %s, %s of them for rows: %d tokens of %d bytes; planned are %d "
        "rows of %d tokens, which take up to %s",
        size_text(free),
        device,
        size_text(budget),
        budget // token_bytes,
        token_bytes,
        plan.rows,
        plan.length,
        size_text(plan.rows * (plan.length + proved.spare) * token_bytes),
    )
    return plan


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
        for width in [w for w in WIDTHS if w <= min(_TIMED_TOKENS, rows.capacity)]:
            times = [step_s(rows, width, cache) for _ in range(3)]
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


def _log_summary(
    model: LoadedModel, settings: ModelSettings, rows: Rows, parameters: int, packed: int
) -> None:
    log.info(
        "%s: %s, %.1f M parameters, %s on %s%s; %d %s rows of %d tokens",
        model.name,
        type(model.module).__name__,
        parameters / 1e6,
        model.dtype,
        settings.device,
        f", weights of {packed} layers packed" if packed else "",
        rows.count,
        rows.layout,
        rows.capacity,
    )
    if model.dtype_note:
        log.warning("%s: %s", model.name, model.dtype_note)
    if model.length_note:
        log.warning("%s: %s; longer sequences are refused", model.name, model.length_note)
