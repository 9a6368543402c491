"""The calls that are refused before anything is done for them: counted one by one, logged together.

A record for each of them would cost more than to refuse it, at a time when there is nothing to
spare. This module knows nothing of why they are refused.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from foredraft_serving.logs import fields

log = logging.getLogger(__name__)

_TOLD_AFTER_S = 10.0


class Refusals:
    """Counts refusals by reason."""

    def __init__(self, observe: Callable[[str], None]) -> None:
        """
        Args:
            observe: counts a refusal in the metrics.
        """
        self._observe = observe
        self._untold: Counter[str] = Counter()

    def __call__(self, reason: str) -> None:
        """Records a refusal, on the event loop."""
        self._observe(reason)
        if not self._untold:
            asyncio.get_running_loop().call_later(_TOLD_AFTER_S, self._tell)
        self._untold[reason] += 1

    def _tell(self) -> None:
        told, self._untold = self._untold, Counter()
        log.warning(
            "%d calls were refused within %g s",
            told.total(),
            _TOLD_AFTER_S,
            extra=fields(**told),
        )
