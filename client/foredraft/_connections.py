"""What the two clients do differently: opening channels, reading messages, pausing.

Everything else of the blocking client is generated from the asynchronous one.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakSet

import grpc
import grpc.aio

from foredraft._channel import OPTIONS, Route
from foredraft.v1 import target_pb2_grpc


class CallLeftError(Exception):
    """The call was ended on this side, but not by the one who reads it."""


class AsyncClosable(Protocol):
    """An open stream of the asynchronous client."""

    async def close(self) -> None:
        """Ends the stream."""


class Closable(Protocol):
    """An open stream of the blocking client."""

    def close(self) -> None:
        """Ends the stream."""


class AsyncConnections:
    """The channels and open streams of an asynchronous client."""

    def __init__(
        self, addresses: Sequence[str], credentials: grpc.ChannelCredentials | None, retries: int
    ) -> None:
        self._addresses, self._credentials, self._retries = addresses, credentials, retries
        self._channels: list[grpc.aio.Channel] = []
        self._route: Route | None = None
        self._streams: WeakSet[AsyncClosable] = WeakSet()

    @property
    def route(self) -> Route:
        """The way of calls, which begins to exist with the first of them."""
        if self._route is None:
            # Not in __init__: a channel belongs to the running loop, and there may be none yet.
            self._channels = [self._channel(address) for address in self._addresses]
            stubs = [target_pb2_grpc.TargetServiceStub(channel) for channel in self._channels]
            self._route = Route(stubs, self._retries)
        return self._route

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self._credentials:
            return grpc.aio.secure_channel(address, self._credentials, options=OPTIONS)
        return grpc.aio.insecure_channel(address, options=OPTIONS)

    def watch(self, stream: AsyncClosable) -> None:
        """Closes a stream with the connections, if it is still open then."""
        self._streams.add(stream)

    async def close(self) -> None:
        """Closes all streams and channels."""
        # grpc.aio does not find calls that are awaited inside of ours.
        for stream in list(self._streams):
            await stream.close()
        for channel in self._channels:
            await channel.close()


class Connections:
    """The channels and open streams of a blocking client; threads may share them."""

    def __init__(
        self, addresses: Sequence[str], credentials: grpc.ChannelCredentials | None, retries: int
    ) -> None:
        self._channels = [
            grpc.secure_channel(address, credentials, OPTIONS)
            if credentials
            else grpc.insecure_channel(address, OPTIONS)
            for address in addresses
        ]
        stubs = [target_pb2_grpc.TargetServiceStub(channel) for channel in self._channels]
        self.route = Route(stubs, retries)
        """The way of calls."""
        self._streams: WeakSet[Closable] = WeakSet()
        self._lock = threading.Lock()

    def watch(self, stream: Closable) -> None:
        """Closes a stream with the connections, if it is still open then."""
        with self._lock:
            self._streams.add(stream)

    def close(self) -> None:
        """Closes all streams and channels."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        for channel in self._channels:
            channel.close()


async def async_read(rpc: Any) -> Any:
    """Returns the next message of a call, None at its end.

    Raises:
        CallLeftError: the call was ended on this side.
        grpc.RpcError: the call failed.
    """
    try:
        message = await rpc.read()
    except asyncio.CancelledError:
        # grpc.aio raises this also in a task that nobody cancelled, when the call was ended here.
        task = asyncio.current_task()
        if task is not None and task.cancelling() > 0:
            raise
        raise CallLeftError from None
    return None if message is grpc.aio.EOF else message


def read(rpc: Any) -> Any:
    """Returns the next message of a call, None at its end.

    Raises:
        CallLeftError: the call was ended on this side.
        grpc.RpcError: the call failed.
    """
    try:
        return next(rpc, None)
    except grpc.RpcError:
        if rpc.cancelled():
            raise CallLeftError from None
        raise


async def async_sleep(pause_s: float) -> None:
    """Waits without holding up the event loop."""
    await asyncio.sleep(pause_s)


def sleep(pause_s: float) -> None:
    """Waits."""
    time.sleep(pause_s)
