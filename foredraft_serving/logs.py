"""Structured logs on stderr, one record a line: a sentence, and fields that machines read.

Every record that is written while a request is served carries the request's id. Prompts and outputs
are logged only by a service that is asked to, which passes them as fields. This module knows
nothing of the services.
"""

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

# the header in which a service names the request that it serves to another service
REQUEST_ID = "x-request-id"  # the header by which services tell one another

_BEGAN_S = time.perf_counter()
_request_id: ContextVar[str] = ContextVar("request_id", default="")
_PLAIN = re.compile(r"[\w.:/+,-]+")


def set_up(service: str, level: str = "info", form: str = "text") -> None:
    """Sets up logs to stderr, with the service's name in every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(service) if form == "json" else _Text(service))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.WARNING)


def adopt(*libraries: str) -> None:
    """Lets the records of libraries, which print them by themselves as well, come here alone.

    Args:
        libraries: the names of their loggers, after their import.
    """
    for library in map(logging.getLogger, libraries):
        library.handlers.clear()
        library.propagate = True


def seconds_since_start() -> float:
    """Returns the seconds since a service began to log, which is before it imports torch."""
    return time.perf_counter() - _BEGAN_S


def is_request_id(text: str) -> bool:
    """Returns whether a text can name a request: in a header, and in one line of a log."""
    return text.isascii() and text.isprintable()


def serve_request(request_id: str) -> None:
    """Names the request in every record of this task and of the tasks that it starts, and to
    services that it calls.
    """
    _request_id.set(request_id)


def request_id() -> str:
    """Returns the id of the request that this task serves; empty outside of a request."""
    return _request_id.get()


def fields(**values: Any) -> dict[str, Any]:
    """Returns fields in the form that the `extra=` of a logging call takes."""
    return {"fields": values}


class _Json(logging.Formatter):
    """Formats a record as one JSON object."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        whole: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            whole["exception"] = self.formatException(record.exc_info)
        return json.dumps(whole, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    """Formats a record for people: the sentence, then key=value."""

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {service} %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        pairs = [f"{name}={_shown(value)}" for name, value in _fields(record).items()]
        return " ".join([super().formatMessage(record), *pairs])


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    named = {"request_id": _request_id.get()} if _request_id.get() else {}
    return named | getattr(record, "fields", {})


def _shown(value: Any) -> str:
    """Returns a value as text, quoted where it could begin a line of its own."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
