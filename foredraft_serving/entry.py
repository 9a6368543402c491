"""Runs a service: logs, traces, and one line instead of a traceback for what the operator can mend.

This module knows nothing of what is served.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from foredraft_engine.errors import ModelError
from foredraft_serving.logs import set_up
from foredraft_serving.server import AddressError, ServiceLostError
from foredraft_serving.settings import SettingsError
from foredraft_serving.tracing import exporting


class TellingSettings(Protocol):
    """The settings that concern logs and traces."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...
    @property
    def tracing(self) -> bool: ...


S = TypeVar("S", bound=TellingSettings)


def run(service: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> int:
    """Serves until a signal; returns the exit code. service: "draft" or "target"."""
    # While a model loads there is nothing to drain: an interrupt ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    async def main() -> None:
        await serve(settings)

    try:
        set_up(service, settings.log_level, settings.log_format)
        with exporting(service, settings.tracing):
            asyncio.run(main())
    except (ModelError, AddressError, SettingsError, ServiceLostError) as error:
        print(f"{service} service: {error}", file=sys.stderr)
        return 1
    return 0
