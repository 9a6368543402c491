"""Checks the fields that say how keys and values are kept, and turns them into what the engine
takes.

Names and defaults are those of transformers' QuantizedCache. This module knows nothing of rows.
"""

import json

from foredraft.v1 import generation_pb2
from foredraft.wire import write
from foredraft_engine.cache.quantizers import BACKENDS, Backend, quantizer
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.settings import SettingsError

Config = generation_pb2.GenerationConfig

QUANTIZED, DYNAMIC = "quantized", "dynamic"
_LEAST_GROUP, _MOST_GROUP = 8, 1024
_MOST_RESIDUAL = 1 << 20


def cache_spec(asked: Config, config: Config, can_quantize: bool) -> CacheSpec | None:
    """Returns how the rows of a call are quantized, None if they are not.

    Args:
        asked: what the call itself sets.
        config: the same with every default filled in.
        can_quantize: whether this model's rows can be quantized.

    Raises:
        InvalidFieldError: the fields cannot be honoured; the way out is named.
    """
    if config.HasField("use_cache") and not config.use_cache:
        raise InvalidFieldError(
            "use_cache", "only true is served: a target keeps what it has read; leave it out"
        )
    kind = config.cache_implementation or DYNAMIC
    if kind not in (DYNAMIC, QUANTIZED):
        reason = (
            f"{kind!r} is how a model is run, which is the operator's choice; leave it "
            "out, or give 'quantized'"
        )
        raise InvalidFieldError("cache_implementation", reason)
    if kind == DYNAMIC:
        if asked.HasField("cache_config"):
            reason = (
                "describes a quantized cache; set cache_implementation='quantized', or leave it out"
            )
            raise InvalidFieldError("cache_config", reason, "cache_implementation")
        return None
    if not can_quantize:
        reason = (
            "this model's rows cannot be quantized: its own code looks into its cache; leave it out"
        )
        raise InvalidFieldError("cache_implementation", reason)
    return _spec(config.cache_config)


def _spec(message: generation_pb2.CacheConfig) -> CacheSpec:
    given = {field.name: value for field, value in message.ListFields()}
    backend = given.pop("backend", "quanto")
    if backend not in BACKENDS:
        raise _refusal(f"backend {backend!r} is none of {_either(list(BACKENDS))}")
    able = BACKENDS[backend]
    if not able.axes:
        for name in {"axis_key", "axis_value", "q_group_size"} & given.keys():
            raise _refusal(
                f"{backend} has a scale for each head of {CacheSpec().q_group_size} positions; "
                f"leave {name} out"
            )
    spec = CacheSpec(backend, **{"nbits": 8 if able.nbits == (8,) else 4, **given})
    _check(spec, able)
    if not able.is_installed:
        raise _refusal(
            f"{backend} is not installed in this service; there: pip install -e "
            f"'.[server,{able.extra}]'"
        )
    try:
        quantizer(spec.backend, spec.nbits)
    except Exception as error:  # a library may raise anything while it is imported
        raise _refusal(
            f"{backend} cannot be used in this service: {' '.join(str(error).split())[:200]}"
        ) from error
    return spec


def _check(spec: CacheSpec, able: Backend) -> None:
    if spec.nbits not in able.nbits:
        raise _refusal(f"nbits of {spec.backend} is {_either(able.nbits)}, not {spec.nbits}")
    for name in ("axis_key", "axis_value"):
        if able.axes and getattr(spec, name) not in able.axes:
            raise _refusal(
                f"{name} of {spec.backend} is {_either(able.axes)}, not {getattr(spec, name)}"
            )
    if spec.q_group_size % 8 or not _LEAST_GROUP <= spec.q_group_size <= _MOST_GROUP:
        reason = (
            f"q_group_size is a multiple of 8 from {_LEAST_GROUP} to {_MOST_GROUP}, not "
            f"{spec.q_group_size}"
        )
        raise _refusal(f"{reason}: a group has to divide evenly and to fill whole bytes")
    if not 1 <= spec.residual_length <= _MOST_RESIDUAL:
        raise _refusal(
            "residual_length is at least 1, since a token reads itself unquantized; not "
            f"{spec.residual_length}"
        )


def of_service(implementation: str, cache_config: str) -> Config:
    """Returns the operator's settings for calls that do not say how their cache is kept.

    Args:
        cache_config: the parameters as JSON, or empty.

    Raises:
        SettingsError: the settings make no sense.
    """
    config = Config()
    if implementation != DYNAMIC:
        config.cache_implementation = implementation
    try:
        if cache_config:
            write(config, "cache_config", json.loads(cache_config))
        check_default(config, can_quantize=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"--cache-config {cache_config!r}: {error}") from error
    return config


def check_default(config: Config, can_quantize: bool) -> CacheSpec | None:
    """Returns how the rows of a call that says nothing are quantized.

    Raises:
        SettingsError: they cannot be; this is told at start, before any call is refused.
    """
    try:
        return cache_spec(config, config, can_quantize)
    except InvalidFieldError as error:
        raise SettingsError(
            f"--cache-implementation, or the model's own generation_config.json: {error}"
        ) from error


def _either(values: "list[str] | tuple[int, ...]") -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def _refusal(reason: str) -> InvalidFieldError:
    return InvalidFieldError("cache_config", reason)
