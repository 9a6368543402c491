"""The HTTP port on which metrics are read, within bounds.

prometheus_client's own server keeps a thread for every connection, for as long as the other end
likes. Here connections have an end, and a new one never waits for old ones. This module knows
nothing of what the metrics are.
"""

import socket
import sys
import threading
import time
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

MAX_CONNECTIONS = 16
"""The connections that are served at the same time, each by a thread."""
CONNECTION_S = 10.0
"""How long a connection lasts at most; Prometheus gives a scrape as much by default."""
_LOOKS_EVERY_S = 0.5


def serve(port: int, host: str, registry: CollectorRegistry) -> int:
    """Serves /metrics from a thread; returns the port. Port 0 draws one.

    Raises:
        OSError: the port is in use.
    """
    server = _Server(port, host)
    server.set_app(_in_plain_text(make_wsgi_app(registry)))
    threading.Thread(target=server.serve_forever, args=(_LOOKS_EVERY_S,), daemon=True).start()
    return server.server_port


def _in_plain_text(app: Any) -> Any:
    """Returns an app that gives every scraper Prometheus' own text. prometheus_client's OpenMetrics
    writes an underscore for the colon in a name, such as those of vLLM.
    """

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("HTTP_ACCEPT", None)
        return app(environ, start_response)

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    """One thread for each connection. One too many ends the oldest."""

    daemon_threads = True
    request_queue_size = socket.SOMAXCONN

    def __init__(self, port: int, host: str) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        self._began: dict[socket.socket, float] = {}  # of open connections, the oldest first
        self._changed = threading.Condition()
        super().__init__(address[:2], _SilentHandler)  # type: ignore[arg-type]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if len(self._began) >= MAX_CONNECTIONS:
                # A scrape takes milliseconds, so the oldest one is hardly a scrape.
                _hang_up(next(iter(self._began)))
                self._changed.wait_for(lambda: len(self._began) < MAX_CONNECTIONS, CONNECTION_S)
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changed:
            self._began.pop(request, None)
            self._changed.notify()
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends connections that have lasted too long; the loop calls this every half second."""
        long_ago = time.monotonic() - CONNECTION_S
        with self._changed:
            for request, began in self._began.items():
                if began < long_ago:
                    _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # which is a peer that has gone
            super().handle_error(request, client_address)


def _hang_up(request: socket.socket) -> None:
    """Ends a connection, and with it the wait of its thread."""
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other end was first


class _SilentHandler(WSGIRequestHandler):
    """A handler that does not log requests."""

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""
