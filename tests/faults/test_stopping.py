"""Calls that arrive while a service stops: each is answered, or is UNAVAILABLE."""

import asyncio
from collections import Counter
from typing import Any

import grpc
import grpc.aio

from foredraft.v1 import draft_pb2, draft_pb2_grpc
from foredraft_serving.server import Server

SERVICE = "foredraft.v1.DraftService"


class Answers(draft_pb2_grpc.DraftServiceServicer):
    """Answers after a while."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.came = asyncio.Semaphore(0)
        """Released by every call that comes."""

    async def GetDraftInfo(self, request: Any, context: Any) -> draft_pb2.GetDraftInfoResponse:
        self.came.release()
        await asyncio.sleep(self._takes_s)
        return draft_pb2.GetDraftInfoResponse(model="answers")


async def test_a_call_on_the_way_to_a_service_that_stops_may_be_sent_elsewhere() -> None:
    """UNAVAILABLE is what clients send again to the next address; CANCELLED is not."""
    codes: Counter[grpc.StatusCode] = Counter()
    for moment in range(16):
        server = Server({}, [SERVICE])
        address = await server.start("127.0.0.1:0")
        answers = Answers(0.005)  # type: ignore[abstract]
        await server.ready(draft_pb2_grpc.add_DraftServiceServicer_to_server, answers)
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
            await stub.GetDraftInfo(draft_pb2.GetDraftInfoRequest())
            calls = [stub.GetDraftInfo(draft_pb2.GetDraftInfoRequest()) for _ in range(20)]
            for _ in range(moment):
                await asyncio.sleep(0)
            stopping = asyncio.create_task(server.stop(5))
            codes += Counter(await asyncio.gather(*(call.code() for call in calls)))
            await stopping
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}, codes
    assert codes[grpc.StatusCode.UNAVAILABLE]


async def test_a_call_that_outlives_the_grace_may_go_on_elsewhere() -> None:
    server = Server({}, [SERVICE])
    address = await server.start("127.0.0.1:0")
    slow = Answers(60)  # type: ignore[abstract]
    await server.ready(draft_pb2_grpc.add_DraftServiceServicer_to_server, slow)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        calls = [stub.GetDraftInfo(draft_pb2.GetDraftInfoRequest()) for _ in range(5)]
        for _ in calls:
            await slow.came.acquire()
        await server.stop(0.1)
        codes = {await call.code() for call in calls}
        assert codes == {grpc.StatusCode.UNAVAILABLE}
        assert "the service ended before the call did" in await calls[0].details()
