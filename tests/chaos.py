"""A draft service whose blocks are delayed, dropped, doubled and reordered at random."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from foredraft.v1 import draft_pb2, draft_pb2_grpc
from tests.loopback import LoopbackDraft, draft_service

_LONGEST_DELAY_S = 0.004


class Chaos(draft_pb2_grpc.DraftServiceServicer):
    """Stands between target and draft.

    A proposal for which the target waits is seldom dropped, since each one costs a timeout.
    """

    def __init__(self, address: str, seed: int, fates: Counter[str]) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = draft_pb2_grpc.DraftServiceStub(self._channel)
        self._random = random.Random(seed)
        self._fates = fates

    async def Draft(self, requests: Any, context: Any) -> AsyncIterator[draft_pb2.DraftResponse]:
        out: asyncio.Queue[Any] = asyncio.Queue()
        call = self._stub.Draft(requests)
        reading = asyncio.create_task(self._read(call, out))
        try:
            while (response := await out.get()) is not None:
                yield response
        finally:
            reading.cancel()
            call.cancel()

    async def _read(self, call: Any, out: "asyncio.Queue[Any]") -> None:
        loop = asyncio.get_running_loop()
        try:
            async for response in call:
                for delay_s in self._fate(response):
                    # A block that is delayed may be overtaken by later ones.
                    loop.call_later(
                        delay_s, out.put_nowait, response
                    ) if delay_s else out.put_nowait(response)
        except grpc.aio.AioRpcError:
            pass
        out.put_nowait(None)

    def _fate(self, response: draft_pb2.DraftResponse) -> list[float]:
        """Returns the delays with which a block arrives, one for each time that it does."""
        dice, pushed = self._random.random(), any(o.path for o in response.block.outcomes)
        if response.HasField("opened") or dice > 0.6:
            fate, delays = "passed", [0.0]
        elif dice < (0.2 if pushed else 0.002):
            fate, delays = "dropped", []
        elif dice < 0.3:
            fate, delays = "doubled", [0.0, self._random.uniform(0, _LONGEST_DELAY_S)]
        else:
            fate, delays = "delayed", [self._random.uniform(0, _LONGEST_DELAY_S)]
        self._fates[fate] += 1
        return delays


class ChaoticDrafts:
    """Starts a draft service like `tests.loopback.draft_service`, behind the chaos; counts what
    became of blocks.
    """

    def __init__(self) -> None:
        self.fates: Counter[str] = Counter()

    @asynccontextmanager
    async def __call__(self, *args: Any, **settings: Any) -> AsyncIterator[LoopbackDraft]:
        async with draft_service(*args, **settings) as draft:
            server = grpc.aio.server()
            chaos = Chaos(draft.address, 1, self.fates)  # type: ignore[abstract]
            draft_pb2_grpc.add_DraftServiceServicer_to_server(chaos, server)
            draft.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            try:
                yield draft
            finally:
                await server.stop(None)
