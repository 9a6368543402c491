"""The calls that are refused because of load: counted one by one, logged together.

A record for each of them would cost more than to refuse it, at a time when there is nothing to
spare.
"""

import asyncio
import logging
from collections import Counter

from foredraft_serving.logs import fields
from foredraft_serving.metrics import TargetMetrics

log = logging.getLogger(__name__)

_TOLD_AFTER_S = 10.0


class Refusals:
    """Counts refusals by reason."""

    def __init__(self, metrics: TargetMetrics) -> None:
        self._metrics = metrics
        self._untold: Counter[str] = Counter()

    def __call__(self, reason: str) -> None:
        """Records a refusal, on the event loop."""
        self._metrics.observe_refusal(reason)
        if not self._untold:
            asyncio.get_running_loop().call_later(_TOLD_AFTER_S, self._tell)
        self._untold[reason] += 1

    def _tell(self) -> None:
        told, self._untold = self._untold, Counter()
        log.warning(
            "overloaded: %d calls were refused within %g s",
            told.total(),
            _TOLD_AFTER_S,
            extra=fields(**told),
        )
