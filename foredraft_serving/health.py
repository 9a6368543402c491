"""The health of a service: on its own port, and for probes on another one.

On the other port threads answer, whatever the event loop does: gRPC copies large messages with the
interpreter held, one after another, and health on the loop waits for all of them. The threads do
not vouch for a loop that hangs: it gives a sign of life every second.

This module knows nothing of what is served.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from foredraft_serving.transport import health_options

_SIGN_S = 1.0
_HANGS_AFTER_S = 15.0
_THREADS = 2
# Calls whose request has not come, each of which holds a thread. They are many enough for a probe
# to stay among them for the moment that its request takes, in a flood of others.
_MOST_UNSENT = 128
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """What probes are told."""

    def __init__(self, server: grpc.aio.Server, listen: str = "") -> None:
        """Adds health to a server.

        Args:
            listen: HOST:PORT for health alone; empty is none.
        """
        self._on_loop = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._on_loop, server)
        self._on_threads = _Watched()
        self._listen = listen
        self._server: grpc.Server | None = None
        self._signs: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listens on the port for health alone, if there is one; returns the address in use."""
        if not self._listen:
            return ""
        self._signs = asyncio.create_task(self._give_signs())
        threads = ThreadPoolExecutor(_MOST_UNSENT + _THREADS, "health")
        self._server = grpc.server(threads, [_handlers(self._on_threads)], options=health_options())
        port = self._server.add_insecure_port(self._listen)
        self._server.start()
        return f"{self._listen.rpartition(':')[0]}:{port}"

    async def set(self, name: str, is_serving: bool) -> None:
        """Tells whether a part of the service serves."""
        status = _SERVING if is_serving else _NOT_SERVING
        self._on_threads.set(name, status)
        await self._on_loop.set(name, status)

    async def stop(self) -> None:
        """Answers nobody any more on the port for health alone."""
        if self._signs is not None:
            self._signs.cancel()
        if self._server is not None:
            self._server.stop(None)

    async def _give_signs(self) -> None:
        while True:
            self._on_threads.sign()
            await asyncio.sleep(_SIGN_S)


class _Unsent:
    """The calls that have been opened and whose request has not come. One too many ends the oldest.

    A request comes with its call, so the oldest one is hardly a probe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Any, None] = {}

    def request(self, requests: Iterator[Any], context: Any) -> Any:
        """Waits for the request of a call."""
        with self._lock:
            if len(self._calls) >= _MOST_UNSENT:
                oldest = next(iter(self._calls))
                del self._calls[oldest]
                oldest.cancel()
            self._calls[context] = None
        try:
            return next(requests)
        finally:
            with self._lock:
                self._calls.pop(context, None)


def _handlers(servicer: health.HealthServicer) -> grpc.GenericRpcHandler:
    """Returns the handlers of health. Every call is a stream to gRPC, which would otherwise give
    its thread to whoever opens a call, until the request comes.
    """
    unsent = _Unsent()

    def check(requests: Any, context: Any) -> Iterator[Any]:
        yield servicer.Check(unsent.request(requests, context), context)

    def watch(requests: Any, context: Any, send: Any) -> None:
        servicer.Watch(unsent.request(requests, context), context, send)

    watch.experimental_non_blocking = True  # type: ignore[attr-defined]
    methods = {
        name: grpc.stream_stream_rpc_method_handler(
            method,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        for name, method in (("Check", check), ("Watch", watch))
    }
    return grpc.method_handlers_generic_handler(health.SERVICE_NAME, methods)


class _Watched(health.HealthServicer):  # type: ignore[misc]
    """Health that says NOT_SERVING where the event loop gives no sign of life."""

    def __init__(self) -> None:
        super().__init__()
        self._signed_at = time.monotonic()

    def sign(self) -> None:
        """Records that the event loop runs."""
        self._signed_at = time.monotonic()

    def Check(self, request: Any, context: Any) -> Any:
        if time.monotonic() - self._signed_at > _HANGS_AFTER_S:
            return health_pb2.HealthCheckResponse(status=_NOT_SERVING)
        return super().Check(request, context)
