"""Serves drafts: loads the model, runs the server."""

import logging

from prometheus_client import CollectorRegistry

from draft_service.service import Drafting, DraftServicer
from draft_service.settings import BRANCH_PLACES, TOKEN_LIMITS, DraftSettings, check
from foredraft.v1 import draft_pb2_grpc
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import LoadedEngine, start_engine
from foredraft_serving.access.authentication import authentication
from foredraft_serving.access.exposure import log_exposure
from foredraft_serving.entry import log_ready, run
from foredraft_serving.metrics import DraftMetrics
from foredraft_serving.refusals import Refusals
from foredraft_serving.server import Server, serve_metrics
from foredraft_serving.status import ENGINE_ERRORS
from foredraft_serving.tls import server_certificates

log = logging.getLogger("draft_service")


async def serve(settings: DraftSettings) -> None:
    """Loads the model and serves until a signal.

    Raises:
        ModelError, AddressError, SettingsError: one line says what to do.
    """
    check(settings)
    certificates = server_certificates(settings)
    registry = CollectorRegistry()
    metrics = DraftMetrics(registry)
    # The address is bound first, so that an address in use is told before a model loads for
    # minutes.
    async with Server(
        ENGINE_ERRORS,
        ["foredraft.v1.DraftService"],
        settings.send_timeout,
        health_listen=settings.health_listen,
        certificates=certificates,
        authentication=authentication(settings, TOKEN_LIMITS, Refusals(metrics.observe_refusal)),
    ) as server:
        address = await server.start(settings.listen)
        log_exposure(settings, address)
        metrics_address = serve_metrics(settings.metrics_listen, registry)
        loaded: LoadedEngine | None = None
        if settings.model is not None:
            callbacks = Callbacks(metrics.observe_step, server.fail)
            loaded = await start_engine(settings.model, settings, callbacks, BRANCH_PLACES)
            metrics.watch(loaded.engine.pool, loaded.engine.capacity)
            metrics.serves(loaded.model.name, str(loaded.model.device), loaded.model.dtype)
        else:
            metrics.serves("", "", "")
        drafting = Drafting(
            settings, metrics, *(loaded.engine, loaded.model) if loaded else (None, None)
        )
        await server.ready(
            draft_pb2_grpc.add_DraftServiceServicer_to_server, DraftServicer(drafting)
        )
        log.info("drafting by %s", drafting.kind)
        log_ready(address, metrics_address, server.health_address or address)
        await server.run(settings.grace)
    if loaded:
        loaded.engine.close()


def main(settings: DraftSettings) -> int:
    """Serves until a signal; returns the exit code."""
    return run("draft", settings, serve)
