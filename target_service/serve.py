"""Serves generations: loads the model, runs the server."""

import asyncio
import logging

from prometheus_client import CollectorRegistry

from foredraft.v1 import target_pb2_grpc
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import LoadedEngine, load_engine
from foredraft_serving.entry import run
from foredraft_serving.intake import Intake
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.server import Server, serve_metrics
from foredraft_serving.settings import SettingsError
from target_service.request.cache_spec import check_default, of_service
from target_service.request.defaults import Config, fill_cache
from target_service.request.model_config import model_config
from target_service.request.named_configs import places
from target_service.service import STATUS, TargetServicer
from target_service.settings import TargetSettings

log = logging.getLogger("target_service")


async def serve(settings: TargetSettings) -> None:
    """Loads the model and serves until a signal.

    Raises:
        ModelError, AddressError, SettingsError: one line says what to do.
    """
    if not settings.model:
        raise SettingsError("--model is required: a model directory or hub id")
    places(settings)  # raises for a wrong directory before the model is loaded
    own = of_service(settings.cache_implementation, settings.cache_config)
    registry = CollectorRegistry()
    metrics = TargetMetrics(registry)
    intake = Intake(settings.max_waiting_bytes, metrics.observe_refusal)
    # The address is bound first, so that an address in use is reported before a model loads
    # for minutes.
    async with Server(
        STATUS,
        ["foredraft.v1.TargetService"],
        settings.send_timeout,
        intake,
        settings.health_listen,
    ) as server:
        address = await server.start(settings.listen)
        metrics_address = serve_metrics(settings.metrics_listen, registry)
        loaded = await asyncio.to_thread(
            load_engine,
            settings.model,
            settings,
            Callbacks(metrics.observe_step, server.fail),
            settings.alternatives,
            check_default(own, can_quantize=True),
        )
        metrics.serves(loaded.model.name, settings.device, loaded.model.dtype)
        metrics.watch(loaded.engine.pool, loaded.engine.capacity)
        defaults = _defaults(settings, loaded, own)
        servicer = TargetServicer(settings, loaded.model, loaded.engine, defaults, metrics)
        await server.ready(target_pb2_grpc.add_TargetServiceServicer_to_server, servicer)
        without = "n-gram lookup" if settings.fallback == "ngram" else "plain decoding"
        drafts = ", ".join(settings.draft_addresses) or "none"
        log.info("drafts: %s; without them: %s", drafts, without)
        health = server.health_address or address
        log.info("ready on %s, metrics on %s, health on %s", address, metrics_address, health)
        await server.run(settings.grace)
    await servicer.close()


def _defaults(settings: TargetSettings, loaded: LoadedEngine, own: Config) -> Config:
    """Returns what the model's own config and the service's settings set."""
    model = loaded.model
    defaults = model_config(model.name, model.generation_config.to_dict(), model.known_ids)
    fill_cache(defaults, own)
    if cache := check_default(defaults, loaded.engine.rows.quantizes):
        log.info("default cache: quantized, %s with %d bits", cache.backend, cache.nbits)
    return defaults


def main(settings: TargetSettings) -> int:
    """Serves until a signal; returns the exit code."""
    return run("target", settings, serve)
