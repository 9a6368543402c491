"""The entry of a service: settings, logs, and one line instead of a traceback for what the operator can mend.

Knows nothing of what is served.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from decoding.errors import ModelError
from serving.logs import set_up
from serving.server import AddressError
from serving.settings import SettingsError, read

S = TypeVar("S")


def run(service: str, settings: type[S], serve: Callable[[S], Awaitable[None]]) -> int:
    """Reads the settings and serves; the exit code. service: "draft" or "target"."""
    set_up(service)

    async def main(chosen: S) -> None:
        await serve(chosen)

    try:
        asyncio.run(main(read(settings, f"FOREDRAFT_{service.upper()}_", sys.argv[1:], os.environ)))
    except (ModelError, AddressError, SettingsError) as error:
        print(f"{service} service: {error}", file=sys.stderr)
        return 1
    return 0
