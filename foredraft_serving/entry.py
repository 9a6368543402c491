"""Runs a service: traces, and one line instead of a traceback for what the operator can mend.

This module knows nothing of what is served.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from foredraft_engine.errors import ModelError
from foredraft_serving.logs import fields, seconds_since_start
from foredraft_serving.server import AddressError, ServiceLostError
from foredraft_serving.service_settings import ProcessFlags
from foredraft_serving.settings import SettingsError
from foredraft_serving.tracing import exporting

log = logging.getLogger(__name__)

S = TypeVar("S", bound=ProcessFlags)


def log_ready(address: str, metrics: str, health: str) -> None:
    """Logs where a service that is ready listens, and how long its start took."""
    log.info(
        "ready on %s, metrics on %s, health on %s",
        *(address, metrics, health),
        extra=fields(phase="ready", seconds=round(seconds_since_start(), 3)),
    )


def run(service: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> int:
    """Serves until a signal; returns the exit code. service: "draft" or "target"."""
    # While a model loads there is nothing to drain: an interrupt ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    async def main() -> None:
        await serve(settings)

    try:
        with exporting(service, settings.tracing):
            asyncio.run(main())
    except (ModelError, AddressError, SettingsError, ServiceLostError) as error:
        print(f"{service} service: {error}", file=sys.stderr)
        return 1
    return 0
