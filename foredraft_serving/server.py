"""A gRPC server with health and reflection, from the first address to the last stream.

This module knows nothing of what is served.
"""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any

import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from foredraft import exposition
from foredraft.wire.limits import MAX_MESSAGE_BYTES
from foredraft_serving.access.authentication import Authentication
from foredraft_serving.certificates import Certificates
from foredraft_serving.gate import Gate
from foredraft_serving.health import Health
from foredraft_serving.intake import Intake
from foredraft_serving.status import StatusInterceptor, Table
from foredraft_serving.tls import server_credentials
from foredraft_serving.transport import call_options

log = logging.getLogger(__name__)

# The last status needs time to leave, and those who watch health never leave by themselves.
_LAST_WORDS_S = 0.5
# How long a service that has no calls left refuses those that are on the way.
_LATE_CALLS_S = 0.1
_WAITING_BYTES = 2 * MAX_MESSAGE_BYTES  # of large requests that wait to be read
LIVENESS, READINESS = "liveness", "readiness"  # the names of health for probes


# The time for running calls to end with their error, once nothing can be served any more.
_LAST_CALLS_S = 1.0


class AddressError(Exception):
    """An address on which the service cannot listen."""


class ServiceLostError(Exception):
    """The service can serve nothing any more, and its process has to end."""


class Server:
    """A gRPC server and its metrics endpoint.

    LIVENESS is SERVING for as long as the process answers and has not failed. READINESS is SERVING
    from `ready` until the drain begins, and so are the names of the services and the empty name.
    """

    def __init__(
        self,
        table: Table,
        services: Sequence[str],
        send_timeout_s: float | None = None,
        intake: Intake | None = None,
        health_listen: str = "",
        certificates: Certificates | None = None,
        authentication: Authentication | None = None,
        watches: Collection[str] = (),
    ) -> None:
        """Makes a server.

        Args:
            table: the gRPC status of each domain exception.
            services: the full names of the services, for health and reflection.
            send_timeout_s: how long a caller may not send its request, or not read its stream; None
                is for ever.
            intake: reads the requests; None is one of its own.
            health_listen: HOST:PORT for health alone, in plain text; empty is none.
            certificates: for TLS; None is plain text.
            authentication: asks callers who they are; None asks nobody.
            watches: the methods whose calls last as long as the service; a drain ends them.
        """
        self._intake = intake or Intake(_WAITING_BYTES)
        self._gate = Gate(services, watches)
        asks = [authentication] if authentication is not None else []
        interceptors = [self._gate, *asks, StatusInterceptor(table, self._intake, send_timeout_s)]
        self._server = grpc.aio.server(interceptors=interceptors, options=call_options())
        self._health_listen, self._certificates = health_listen, certificates
        self._health = Health(self._server, health_listen)
        self.health_address = ""
        """Where health alone is served; empty if nowhere."""
        self._services = services
        self._stop = asyncio.Event()  # the wish to end, by a signal or a failure
        self._failure = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._health.stop()
        await self._server.stop(0)

    async def start(self, listen: str) -> str:
        """Listens on HOST:PORT, alive but not ready; returns the address in use. Port 0 draws one.

        Raises:
            AddressError: the port is in use, or the address makes no sense.
        """
        _try_address(listen)
        if self._health_listen:
            _try_address(self._health_listen)
        self._loop = asyncio.get_running_loop()
        if self._certificates is None:
            port = self._server.add_insecure_port(listen)
        else:
            port = self._server.add_secure_port(listen, server_credentials(self._certificates))
        await self._server.start()
        self.health_address = await self._health.start()
        await self._health.set(LIVENESS, True)
        await self._set_ready(False)
        return f"{listen.rpartition(':')[0]}:{port}"

    def add(self, register: Callable[[Any, Any], None], servicer: Any) -> None:
        """Adds a service beside the one that `ready` adds."""
        register(servicer, self._server)

    async def ready(self, register: Callable[[Any, Any], None], servicer: Any) -> None:
        """Takes calls from now on. register: the generated `add_..._to_server` of the servicer."""
        register(servicer, self._server)
        self._gate.closed = ""
        await self._set_ready(True)

    async def run(self, grace_s: float) -> None:
        """Serves until SIGTERM or SIGINT; running streams then have `grace_s`, or until a second
        signal.

        Raises:
            ServiceLostError: `fail` was called.
        """
        # What was loaded stays. A full collection that looks through all of it, torch included,
        # would hold up the event loop for a quarter of a second every now and then.
        gc.collect()
        gc.freeze()
        loop, stop = asyncio.get_running_loop(), self._stop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()
        if self._failure:
            await self._health.set(LIVENESS, False)
            await self.stop(_LAST_CALLS_S)
            raise ServiceLostError(self._failure)
        log.info(
            "draining: running streams have %g s to end; a second signal ends them at once", grace_s
        )
        stop.clear()
        draining = asyncio.create_task(self.stop(grace_s))
        again = asyncio.create_task(stop.wait())
        await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if draining.done():
            await draining
        else:
            log.warning("a second signal: what still runs is cut off")
            draining.cancel()
            await self._end()
        log.info("stopped")

    def fail(self, reason: str) -> None:
        """Ends the service, which is no longer alive; any thread may call this."""
        assert self._loop is not None, "a server that was not started cannot fail"

        def end() -> None:
            self._failure = self._gate.closed = reason
            self._stop.set()

        self._loop.call_soon_threadsafe(end)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Refuses new calls, lets running ones end within the grace period, then cancels them.

        The port stays open until the last call has ended, so that probes and new callers get an
        answer.
        """
        self._gate.closed = self._failure or "it is about to end"
        await self._set_ready(False)
        self._gate.end_watches()
        try:
            async with asyncio.timeout(grace_s):
                await self._gate.empty.wait()
        except TimeoutError:
            log.warning("the grace of %g s is over: what still runs is cut off", grace_s)
        else:
            # Calls that gRPC has accepted and that did not come to the gate yet are refused there.
            await asyncio.sleep(min(grace_s, _LATE_CALLS_S))
        await self._end()

    async def _end(self) -> None:
        self._gate.cut_off()
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._gate.empty.wait()
        except TimeoutError:
            log.warning("a call does not end: its connection is closed")
            await self._server.stop(0)
        await self._server.stop(_LAST_WORDS_S)
        self._intake.close()

    async def _set_ready(self, is_ready: bool) -> None:
        for name in (READINESS, "", *self._services):
            await self._health.set(name, is_ready)


def serve_metrics(listen: str, registry: CollectorRegistry) -> str:
    """Serves /metrics on HOST:PORT; returns the address in use.

    Raises:
        AddressError: the port is in use, or the address makes no sense.
    """
    host, port = _try_address(listen)
    return f"{listen.rpartition(':')[0]}:{exposition.serve(port, host, registry)}"


def _try_address(listen: str) -> tuple[str, int]:
    """Returns host and port after trying them, since gRPC tells little of what is wrong, over
    several lines.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise AddressError(
            f"cannot listen on {listen!r}: it is not HOST:PORT, as in 127.0.0.1:50051"
        )
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        flags = "--listen, --metrics-listen or --health-listen"
        reason = f"{error.strerror or error}; give another address with {flags}"
        raise AddressError(f"cannot listen on {listen}: {reason}") from error
    return host, int(port)
