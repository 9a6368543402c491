"""The phases of a start, each of which is logged when it ends.

This module knows nothing of what is done in them.
"""

import logging
import time
from typing import Any

log = logging.getLogger(__name__)


class Phases:
    """Phases that follow one another."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def ended(self, phase: str, message: str, *values: object) -> None:
        """Logs that a phase ended, with the seconds since the one before.

        Args:
            message, values: what came of it, as for a logger.
        """
        now = time.perf_counter()
        fields: dict[str, Any] = {"phase": phase, "seconds": round(now - self._began, 3)}
        self._began = now
        log.info(message, *values, extra={"fields": fields})
