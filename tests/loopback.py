"""Both services in the test's own process, on loopback, over real gRPC."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from draft_service.service import Drafting, DraftServicer
from draft_service.settings import TOKEN_LIMITS as DRAFT_LIMITS
from draft_service.settings import DraftSettings
from foredraft.v1 import draft_pb2_grpc, target_pb2_grpc
from foredraft.wire.api_tokens import TOKEN_LIMITS
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.access.authentication import authentication
from foredraft_serving.intake import Intake
from foredraft_serving.metrics import DraftMetrics, TargetMetrics
from foredraft_serving.server import Server
from foredraft_serving.status import ENGINE_ERRORS
from foredraft_serving.tls import server_certificates
from target_service.gateway import WATCHES, add_gateway_services, service_names
from target_service.request.defaults import Config
from target_service.service import TargetServicer
from target_service.settings import TargetSettings
from target_service.status import STATUS

ANY_PORT = "127.0.0.1:0"


@asynccontextmanager
async def served(
    servicer: Any, add: Callable[[Any, Any], None], grace_s: float | None = 0
) -> AsyncIterator[str]:
    """Serves a stand-in over bare gRPC; yields its address.

    Args:
        add: the generated `add_..._to_server` of the servicer.
        grace_s: the seconds that running calls have at the end; None ends them at once.
    """
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port(ANY_PORT)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace_s)


class LoopbackDraft:
    """A draft service that a test can stop, and start again on the same port."""

    def __init__(self, rows: Rows | None, model: LoadedModel | None, **settings: Any) -> None:
        self.settings = replace(DraftSettings(), **settings)
        self.registry = CollectorRegistry()
        self.metrics = DraftMetrics(self.registry)
        self.engine = Engine(rows, model.known_ids) if rows and model else None
        self._model = model
        self.address = ANY_PORT
        self._server: Server | None = None

    def value(self, name: str, **labels: str) -> float:
        """Returns a metric's value now."""
        return self.registry.get_sample_value(name, labels) or 0.0

    async def start(self) -> str:
        self._server = Server(
            ENGINE_ERRORS,
            ["foredraft.v1.DraftService"],
            self.settings.send_timeout,
            certificates=server_certificates(self.settings),
            authentication=authentication(
                self.settings, DRAFT_LIMITS, self.metrics.observe_refusal
            ),
        )
        drafting = Drafting(self.settings, self.metrics, self.engine, self._model)
        self.address = await self._server.start(self.address)
        await self._server.ready(
            draft_pb2_grpc.add_DraftServiceServicer_to_server, DraftServicer(drafting)
        )
        return self.address

    async def stop(self) -> None:
        if self._server:
            await self._server.stop()
            self._server = None

    def close(self) -> None:
        if self.engine:
            self.engine.close()


@asynccontextmanager
async def draft_service(
    rows: Rows | None, model: LoadedModel | None, **settings: Any
) -> AsyncIterator[LoopbackDraft]:
    draft = LoopbackDraft(rows, model, **settings)
    await draft.start()
    try:
        yield draft
    finally:
        await draft.stop()
        draft.close()


class LoopbackTarget:
    """A running target service."""

    def __init__(
        self,
        server: Server,
        address: str,
        engine: Engine,
        metrics: TargetMetrics,
        registry: CollectorRegistry,
    ) -> None:
        self.server, self.address, self.engine = server, address, engine
        self.metrics, self.registry = metrics, registry

    def value(self, name: str, **labels: str) -> float:
        """Returns a metric's value now."""
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def target_service(
    rows: Rows,
    model: LoadedModel,
    drafts: str = "",
    defaults: Config | None = None,
    **settings: Any,
) -> AsyncIterator[LoopbackTarget]:
    registry = CollectorRegistry()
    metrics = TargetMetrics(registry)
    # What is exercised is not to depend on how busy the machine is, unless a test asks for that.
    settings = {"choose_outcomes": False, "draft_timeout": 60.0, **settings}
    chosen = replace(TargetSettings(), model=model.name, draft=drafts, **settings)
    engine = Engine(
        rows,
        model.known_ids,
        chunk_tokens=chosen.chunk_tokens,
        callbacks=Callbacks(metrics.observe_step),
    )
    metrics.watch(engine.pool, engine.capacity)
    servicer = TargetServicer(chosen, model, engine, defaults or Config(), metrics)
    intake = Intake(chosen.max_waiting_bytes, metrics.observe_refusal)
    server = Server(
        STATUS,
        ["foredraft.v1.TargetService", *service_names(chosen)],
        chosen.send_timeout,
        intake,
        certificates=server_certificates(chosen),
        authentication=authentication(chosen, TOKEN_LIMITS, metrics.observe_refusal),
        watches=WATCHES,
    )
    add_gateway_services(server, chosen, servicer, model)
    address = await server.start(ANY_PORT)
    await server.ready(target_pb2_grpc.add_TargetServiceServicer_to_server, servicer)
    try:
        yield LoopbackTarget(server, address, engine, metrics, registry)
    finally:
        await server.stop()
        await servicer.close()


def named_fields(error: grpc.aio.AioRpcError) -> set[str]:
    """Returns the fields in the error's google.rpc.BadRequest."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                bad = error_details_pb2.BadRequest()
                if detail.Unpack(bad):
                    return {violation.field for violation in bad.field_violations}
    return set()
