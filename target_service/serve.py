"""Serves generations: loads the model, runs the server."""

import asyncio
import logging

from prometheus_client import CollectorRegistry

from foredraft.v1 import target_pb2_grpc
from foredraft.wire.api_tokens import TOKEN_LIMITS
from foredraft_engine.errors import ModelError
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import LoadedEngine, start_engine
from foredraft_serving.access.authentication import authentication
from foredraft_serving.access.exposure import log_exposure
from foredraft_serving.certificates import Certificates
from foredraft_serving.entry import log_ready, run
from foredraft_serving.intake import Intake
from foredraft_serving.metric_aliases import VllmAliases
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.refusals import Refusals
from foredraft_serving.server import Server, serve_metrics
from foredraft_serving.tls import server_certificates
from target_service.drafting.draft_channel import draft_credentials
from target_service.gateway import WATCHES, add_gateway_services, service_names
from target_service.request.cache_spec import check_default, of_service
from target_service.request.defaults import Config, fill_cache
from target_service.request.model_config import model_config
from target_service.request.named_configs import places
from target_service.service import TargetServicer
from target_service.settings import TargetSettings, check
from target_service.status import STATUS

log = logging.getLogger("target_service")


async def serve(settings: TargetSettings) -> None:
    """Loads the model and serves until a signal.

    Raises:
        ModelError, AddressError, SettingsError: one line says what to do.
    """
    _check(settings)
    certificates = server_certificates(settings)
    own = of_service(settings.cache_implementation, settings.cache_config)
    registry, served = CollectorRegistry(), CollectorRegistry()
    served.register(registry)
    metrics = TargetMetrics(registry)
    # The address is bound first, so that an address in use is reported before a model loads
    # for minutes.
    async with _server(settings, metrics, certificates) as server:
        address = await server.start(settings.listen)
        log_exposure(settings, address)
        metrics_address = serve_metrics(settings.metrics_listen, served)
        loaded = await start_engine(
            settings.model,
            settings,
            Callbacks(metrics.observe_step, server.fail),
            settings.alternatives,
            check_default(own, can_quantize=True),
        )
        _check_whole(loaded.model)
        metrics.serves(loaded.model.name, str(loaded.model.device), loaded.model.dtype)
        if settings.metrics_aliases == "vllm":
            served.register(VllmAliases(registry, loaded.model.name))
        metrics.watch(loaded.engine.pool, loaded.engine.capacity)
        defaults = _defaults(settings, loaded, own)
        servicer = TargetServicer(settings, loaded.model, loaded.engine, defaults, metrics)
        add_gateway_services(server, settings, servicer, loaded.model)
        await server.ready(target_pb2_grpc.add_TargetServiceServicer_to_server, servicer)
        without = "n-gram lookup" if settings.fallback == "ngram" else "plain decoding"
        drafts = ", ".join(settings.draft_addresses) or "none"
        log.info("drafts: %s; without them: %s", drafts, without)
        log_ready(address, metrics_address, server.health_address or address)
        looking = asyncio.create_task(servicer.look_for_drafts())
        try:
            await server.run(settings.grace)
        finally:
            looking.cancel()
    await servicer.close()


def _server(
    settings: TargetSettings, metrics: TargetMetrics, certificates: Certificates | None
) -> Server:
    """Returns the server, which does not listen yet."""
    return Server(
        STATUS,
        ["foredraft.v1.TargetService", *service_names(settings)],
        settings.send_timeout,
        Intake(settings.max_waiting_bytes, metrics.observe_refusal),
        settings.health_listen,
        certificates,
        authentication(settings, TOKEN_LIMITS, Refusals(metrics.observe_refusal)),
        WATCHES,
    )


def _check(settings: TargetSettings) -> None:
    """Refuses settings that make no sense before a model is loaded.

    Raises:
        SettingsError: they do not.
    """
    check(settings)
    draft_credentials(settings)
    places(settings)


def _check_whole(model: LoadedModel) -> None:
    """Refuses a draft that knows only some tokens: it could never say the others.

    Raises:
        ModelError: the model is one.
    """
    if model.draft_vocabulary:
        raise ModelError(
            f"{model.name!r} is a draft that knows {len(model.draft_vocabulary.target_ids)} of "
            f"{model.draft_vocabulary.size} tokens: give it to foredraft-draft, and the model that "
            "it drafts for here"
        )


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
