"""Serves drafts: loads the model, runs the server."""

import asyncio
import logging

from prometheus_client import CollectorRegistry

from draft_service.service import Drafting, DraftServicer
from draft_service.settings import BRANCH_PLACES, DraftSettings
from foredraft.v1 import draft_pb2_grpc
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import LoadedEngine, load_engine
from foredraft_serving.entry import run
from foredraft_serving.metrics import DraftMetrics
from foredraft_serving.server import Server, serve_metrics
from foredraft_serving.settings import SettingsError
from foredraft_serving.status import ENGINE_ERRORS

log = logging.getLogger("draft_service")


async def serve(settings: DraftSettings) -> None:
    """Loads the model and serves until a signal.

    Raises:
        ModelError, AddressError, SettingsError: one line says what to do.
    """
    _check(settings)
    registry = CollectorRegistry()
    metrics = DraftMetrics(registry)
    # The address is bound first, so that an address in use is told before a model loads for
    # minutes.
    async with Server(
        ENGINE_ERRORS,
        ["foredraft.v1.DraftService"],
        settings.send_timeout,
        health_listen=settings.health_listen,
    ) as server:
        address = await server.start(settings.listen)
        metrics_address = serve_metrics(settings.metrics_listen, registry)
        loaded: LoadedEngine | None = None
        if settings.model is not None:
            callbacks = Callbacks(metrics.observe_step, server.fail)
            loaded = await asyncio.to_thread(
                load_engine, settings.model, settings, callbacks, BRANCH_PLACES
            )
            metrics.watch(loaded.engine.pool, loaded.engine.capacity)
            metrics.serves(loaded.model.name, settings.device, loaded.model.dtype)
        else:
            metrics.serves("", "", "")
        drafting = Drafting(
            settings, metrics, *(loaded.engine, loaded.model) if loaded else (None, None)
        )
        await server.ready(
            draft_pb2_grpc.add_DraftServiceServicer_to_server, DraftServicer(drafting)
        )
        log.info("drafting by %s", drafting.kind)
        health = server.health_address or address
        log.info("ready on %s, metrics on %s, health on %s", address, metrics_address, health)
        await server.run(settings.grace)
    if loaded:
        loaded.engine.close()


def _check(settings: DraftSettings) -> None:
    if settings.model is None and settings.ngram == "off":
        raise SettingsError(
            "--ngram off without --model leaves nothing to draft with: give one of the two"
        )
    if settings.model is not None and settings.ngram == "only":
        raise SettingsError(
            "--ngram only would load --model and never use it: leave one of the two out"
        )


def main(settings: DraftSettings) -> int:
    """Serves until a signal; returns the exit code."""
    return run("draft", settings, serve)
