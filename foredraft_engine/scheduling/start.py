"""Starts an engine from the name of a model: loads it, proves its rows, starts the device thread.

This module knows nothing of services. Their settings have the fields of `ModelSettings`.
"""

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import ModelError
from foredraft_engine.model.captured_rows import capture_rows
from foredraft_engine.model.free_memory import trim_heap
from foredraft_engine.model.joined_linears import join_linears
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.quantization import method_of
from foredraft_engine.model.reduced_rows import ReducedRows
from foredraft_engine.model.traced_rows import trace_rows
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.model_settings import ModelSettings
from foredraft_engine.scheduling.phases import Phases
from foredraft_engine.scheduling.row_memory import plan_memory
from foredraft_engine.scheduling.row_plan import rows_text, size_text
from foredraft_engine.scheduling.step_timing import time_steps

log = logging.getLogger(__name__)

# How long a thread that computes keeps the interpreter from one that waits. Python's default of
# 5 ms is ten times a round trip between the services.
_SWITCH_S = 0.0005


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A model and the engine that runs it."""

    engine: Engine
    model: LoadedModel


async def start_engine(
    name: str,
    settings: ModelSettings,
    callbacks: Callbacks,
    spare: int = 0,
    cache: CacheSpec | None = None,
) -> LoadedEngine:
    """Does what `load_engine` does, so that of all threads the device thread alone has helpers.

    A thread that computes on a CPU gets OpenMP threads of its own, and keeps them while it lives.
    As soon as a process has more of them than cores, OpenMP lets all of them sleep at the end of
    every kernel, where they else wait awake: a step then takes half as long again. So loading has a
    thread that ends, and what others compute they compute alone.
    """
    loading = ThreadPoolExecutor(1, "loading")
    try:
        loaded = await asyncio.get_running_loop().run_in_executor(
            loading, load_engine, name, settings, callbacks, spare, cache
        )
    finally:
        loading.shutdown(wait=False)
    # A thread takes the number when it asks for it first, and keeps it.
    await loaded.engine.run(torch.get_num_threads)
    torch.set_num_threads(1)  # for this thread, and for those that ask later
    return loaded


def load_engine(
    name: str,
    settings: ModelSettings,
    callbacks: Callbacks,
    spare: int = 0,
    cache: CacheSpec | None = None,
) -> LoadedEngine:
    """Loads a model, starts its engine, and logs each phase.

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
    phases = Phases()
    model = _loaded(name, settings)
    # Counted before packing: a packed weight is no parameter any more.
    parameters = sum(p.numel() for p in model.module.parameters())
    phases.ended("load", "%s is loaded", name)
    try:
        packed = 0
        if settings.packed_weights:
            join_linears(model.module)
            packed = pack_weights(model.module)
        phases.ended("weights", "%s", _weights_text(model, parameters, packed))
        engine = _engine(model, settings, callbacks, spare, cache, phases)
    except ModelError as error:
        if method := method_of(model.module.config):
            raise ModelError(f"a checkpoint quantized by {method}: {error}") from error
        raise
    except Exception as error:  # a model's own code raises what it likes
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise ModelError(
            f"cannot serve {name!r}: its own forward pass fails: {reason}; use another model"
        ) from error
    _log_notes(model)
    return LoadedEngine(engine, model)


def _loaded(name: str, settings: ModelSettings) -> LoadedModel:
    return load(
        name,
        adapter=settings.adapter,
        device=settings.device,
        dtype=settings.dtype,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )


def _engine(
    model: LoadedModel,
    settings: ModelSettings,
    callbacks: Callbacks,
    spare: int,
    cache: CacheSpec | None,
    phases: Phases,
) -> Engine:
    """Proves the rows of a loaded model, times its steps and starts its engine."""
    longest = min(settings.max_length or model.max_length, model.max_length)
    if settings.max_length > longest:
        log.warning(
            "max_length: %d is more than the %d tokens that %s takes; longer sequences are refused",
            *(settings.max_length, longest, model.name),
        )
    proved = prove_rows(model.module, model.text_config, longest, spare)
    trim_heap()
    plan = plan_memory(proved, settings, longest, cache)
    rows = proved.make(plan.rows, plan.length)
    phases.ended("rows", "%s rows: %s", rows.layout, rows_text(rows.count, rows.capacity))
    tracing = trace_rows(rows, settings.compile)
    for note in tracing.notes:
        log.info("layers run as they are: %s", note)
    phases.ended("tracing", "traced shapes of layers: %d", tracing.shapes)
    if rows.device.type == "cuda":
        why_not = capture_rows(rows, settings.compile)
        phases.ended(
            "capture", "passes are recorded as they come%s", why_not and f" not: {why_not}"
        )
    if model.draft_vocabulary:
        rows = ReducedRows(rows, model.draft_vocabulary)
    step_times = time_steps(rows, cache if rows.quantizes else None)
    phases.ended("timing", "steps are timed")
    return Engine(
        rows,
        model.known_ids,
        chunk_tokens=settings.chunk_tokens,
        callbacks=callbacks,
        step_times=step_times,
    )


def _weights_text(model: LoadedModel, parameters: int, packed: int) -> str:
    """Says what the weights are, and the memory that they take once they are packed."""
    module = model.module
    tensors = [*module.parameters(), *module.buffers()]
    taken = size_text(sum(tensor.numel() * tensor.itemsize for tensor in tensors))
    return (
        f"{type(module).__name__}: {parameters / 1e6:.1f} M parameters, {model.dtype} on "
        f"{model.device}, {taken}" + (f"; packed layers: {packed}" if packed else "")
    )


def _log_notes(model: LoadedModel) -> None:
    if model.dtype_note:
        log.warning("%s: %s", model.name, model.dtype_note)
    if model.length_note:
        log.warning("%s: %s; longer sequences are refused", model.name, model.length_note)
