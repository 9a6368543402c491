"""From a model's name to a running engine: load, prove the rows, start the device thread.

Knows nothing of services; their settings have these fields.
"""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.feed import Feed
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.step import Step
from foredraft_engine.scheduling.step_times import WIDTHS, StepTimes

log = logging.getLogger(__name__)

_DEFAULT_LENGTH = 8192
# A thread that computes holds the interpreter for this long before a waiting one has its turn; the
# default of 5 ms is a round trip on the wire ten times over.
_SWITCH_S = 0.0005


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
    def chunk_tokens(self) -> int: ...
    @property
    def packed_weights(self) -> bool: ...


# Steps are timed up to this width, or as far as there is time for.
_TIMED_TOKENS, _TIMING_S = 64, 2.0


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A model and the engine that runs it."""

    engine: Engine
    model: LoadedModel


def load_engine(
    name: str,
    settings: ModelSettings,
    on_step: Callable[[Step], None],
    spare: int = 0,
    cache: CacheSpec | None = None,
) -> LoadedEngine:
    """Loads a model and starts its engine; says in the log what it found.

    Args:
        spare: places of every row for branches, beyond its length.
        cache: how rows are quantized where a call does not say, if they are.

    Raises:
        ModelError: it cannot be loaded or served.
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
    size = sum(p.numel() for p in model.module.parameters()) / 1e6
    packed = pack_weights(model.module) if settings.packed_weights else 0
    capacity = min(settings.max_length or _DEFAULT_LENGTH, model.max_length)
    rows = prove_rows(model.module, model.text_config, settings.rows, capacity, spare)
    step_times = time_steps(rows, cache if rows.quantizes else None)
    engine = Engine(
        rows,
        model.vocabulary.size,
        chunk_tokens=settings.chunk_tokens,
        on_step=on_step,
        step_times=step_times,
    )
    log.info(
        "%s: %s, %.1f M parameters, %s on %s%s; %d %s rows of %d tokens",
        name,
        type(model.module).__name__,
        size,
        settings.dtype,
        settings.device,
        f", weights of {packed} layers packed" if packed else "",
        settings.rows,
        rows.layout,
        capacity,
    )
    if model.length_note:
        log.warning("%s: %s; longer sequences are refused", name, model.length_note)
    return LoadedEngine(engine, model)


def time_steps(rows: Rows, cache: CacheSpec | None = None) -> StepTimes:
    """Times steps of the widths that verification and trees have; the first request finds the
    device warmed up.

    What was never timed would be taken from a prompt's step far wider, and so never be tried.
    cache: how rows are quantized; the room of rows that are not is then not taken.
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
    """Of one step over so many tokens."""
    began = time.perf_counter()
    rows.forward([Feed(0, 0, [0] * width, cache=cache)], [width]).argmax(
        dim=-1
    ).tolist()  # waits for the device
    return time.perf_counter() - began
