"""A device that is lost ends the process: callers and probes are told, and a log says so."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from torch import Tensor

from foredraft import AsyncClient, UnavailableError
from foredraft.v1 import target_pb2_grpc
from foredraft_engine.feed import Feed
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.server import LIVENESS, READINESS, Server, ServiceLostError
from target_service.request.defaults import Config
from target_service.service import TargetServicer
from target_service.settings import TargetSettings
from target_service.status import STATUS
from tests.fakes import TableRows, random_table, table_model

VOCAB = 9


class LostRows(TableRows):
    """A device that is lost after some steps."""

    left = 20

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        self.use()
        return super().forward(feeds, scored)

    def use(self, device: torch.device | None = None) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


async def _watched(channel: grpc.aio.Channel, name: str) -> list[int]:
    """Returns what health says of a service until the server has ended."""
    said = []
    watch: Any = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=name)
    )
    try:
        async for answer in watch:
            said.append(answer.status)
    except grpc.aio.AioRpcError:
        pass
    return said


async def test_callers_and_probes_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rows, model = LostRows(random_table(VOCAB, 0)), table_model(VOCAB)
    server = Server(STATUS, ["foredraft.v1.TargetService"])
    engine = Engine(rows, VOCAB, callbacks=Callbacks(on_lost=server.fail, use=rows.use))
    metrics = TargetMetrics(CollectorRegistry())
    servicer = TargetServicer(TargetSettings(), model, engine, Config(), metrics)
    async with server:
        address = await server.start("127.0.0.1:0")
        await server.ready(target_pb2_grpc.add_TargetServiceServicer_to_server, servicer)
        async with (
            grpc.aio.insecure_channel(address) as channel,
            AsyncClient(address, max_retries=0) as client,
        ):
            running = asyncio.create_task(server.run(grace_s=30))
            probes = [asyncio.create_task(_watched(channel, n)) for n in (LIVENESS, READINESS)]
            calls = [client.generate([1, i], max_new_tokens=100) for i in range(3)]
            async with asyncio.timeout(60):
                errors = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(error, UnavailableError) for error in errors), errors
                with pytest.raises(ServiceLostError, match="illegal memory access"):
                    await running
                for said in await asyncio.gather(*probes):
                    assert said == [
                        health_pb2.HealthCheckResponse.SERVING,
                        health_pb2.HealthCheckResponse.NOT_SERVING,
                    ]
    await servicer.close()
    assert "the device is lost, and the process has to end" in caplog.text
