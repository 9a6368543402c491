"""A target service whose connection is lost after a number of messages, as that of a killed one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from foredraft.v1 import target_pb2, target_pb2_grpc
from tests.loopback import served


class LossyTarget(target_pb2_grpc.TargetServiceServicer):
    """Passes calls on to a real target, and loses some of them.

    `losses` says after how many messages each next call is lost; calls beyond it are whole.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = target_pb2_grpc.TargetServiceStub(self._channel)
        self.losses: list[int] = []
        self.requests: list[target_pb2.GenerateRequest] = []

    async def Generate(
        self, request: target_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[target_pb2.GenerateResponse]:
        self.requests.append(request)
        left = self.losses.pop(0) if self.losses else -1
        call = self._stub.Generate(request)
        try:
            async for message in call:
                if left == 0:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                left -= 1
                yield message
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        finally:
            call.cancel()

    async def close(self) -> None:
        """Closes the connection to the real target."""
        await self._channel.close()


@asynccontextmanager
async def lossy(address: str) -> AsyncIterator[tuple[str, LossyTarget]]:
    """Stands in front of a target; gives the address, and what decides on losses."""
    target = LossyTarget(address)  # type: ignore[abstract]
    try:
        async with served(
            target, target_pb2_grpc.add_TargetServiceServicer_to_server, grace_s=None
        ) as place:
            yield place, target
    finally:
        await target.close()
