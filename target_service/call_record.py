"""The record of one call: what is counted and logged, from its arrival to its end.

This module knows nothing of how a call is served.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from foredraft.tracing import Span
from foredraft.v1 import target_pb2
from foredraft_engine.errors import InvalidFieldError, LateStartError
from foredraft_serving.logs import fields
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.overload import LimitError, OverloadError, UnreadError
from target_service.output.stream import FINISH_REASONS
from target_service.running_calls import AbortedError

log = logging.getLogger(__name__)

_NAMES = {number: name for name, number in FINISH_REASONS.items()}

# Refusals are logged together, see `Refusals`.
_LEVELS = {"error": logging.WARNING, "overloaded": logging.DEBUG, "limited": logging.DEBUG}
_REFUSED = ("overloaded", "limited")
# A client that gives up at its deadline says so a little before our deadline: gRPC rounds the time
# left up, by as much as a hundredth, and our clock began when the call arrived.
_ROUNDING, _TRAVEL_S = 0.01, 0.05


class CallRecord:
    """Counts one call, and logs it when it is left as a context manager."""

    def __init__(
        self,
        metrics: TargetMetrics,
        allowed_s: float | None,
        decode: Callable[..., str] | None,
        span: Span,
    ) -> None:
        """Begins the record.

        Args:
            allowed_s: the time until the caller's deadline; None if there is none.
            decode: turns ids into text, where prompts and outputs are to be logged.
        """
        self._metrics, self._decode, self._span = metrics, decode, span
        self._began = time.perf_counter()
        self._late_after_s = (
            math.inf if allowed_s is None else (1 - _ROUNDING) * allowed_s - _TRAVEL_S
        )
        self._admitted = False
        self._said: dict[str, Any] = {}  # the fields of the log record and the span
        self._prompts: list[str] = []
        self._outputs: dict[int, list[int]] = {}

    def admitted(self, prompts: Sequence[Sequence[int]]) -> None:
        """Records that the call is valid and runs."""
        self._admitted = True
        self._metrics.requests_running.inc()
        if self._decode:
            self._prompts = [self._decode(ids) for ids in prompts]

    def chunk(self, chunk: target_pb2.Chunk) -> None:
        """Records that tokens are sent."""
        if self._decode:
            self._outputs.setdefault(chunk.sequence_index, []).extend(chunk.token_ids)

    def finished(self, summaries: Sequence[target_pb2.SequenceSummary]) -> None:
        """Records that all sequences ended by themselves."""
        self._said |= {
            "sequences": len(summaries),
            "reasons": ",".join(sorted({_NAMES[s.finish_reason] for s in summaries})),
            "prompt_tokens": sum(s.prompt_tokens for s in summaries),
            "generated_tokens": sum(s.generated_tokens for s in summaries),
            "rounds": sum(s.stats.rounds for s in summaries),
            "proposed": sum(s.stats.proposed for s in summaries),
            "accepted": sum(s.stats.accepted for s in summaries),
            "drafter": ",".join(sorted({s.stats.drafter for s in summaries})),
        }

    def __enter__(self) -> "CallRecord":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        outcome = self._outcome(error)
        if self._admitted:
            self._metrics.requests_running.dec()
        if outcome not in ("ok", *_REFUSED):  # who refuses a call counts it
            self._metrics.failures.labels(outcome).inc()
        self._span.end(outcome, outcome not in ("invalid", "error", "deadline"), self._said)
        if self._decode:
            self._said["prompts"] = self._prompts
            self._said["outputs"] = [self._decode(ids) for _, ids in sorted(self._outputs.items())]
        level = _LEVELS.get(outcome, logging.INFO)
        spent_s = time.perf_counter() - self._began
        log.log(
            level, "request ended", extra=fields(outcome=outcome, **self._said, duration_s=spent_s)
        )

    def _outcome(self, error: BaseException | None) -> str:
        if error is None:
            return "ok"
        if isinstance(error, InvalidFieldError):
            self._said["field"] = error.field
            return "invalid"
        if isinstance(error, OverloadError):
            self._said["refused"] = error.reason
            return "limited" if isinstance(error, LimitError) else "overloaded"
        if isinstance(error, UnreadError):
            return "unread"
        if isinstance(error, LateStartError):
            return "deadline"
        if isinstance(error, AbortedError):
            return "cancelled"
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            spent_s = time.perf_counter() - self._began
            return "cancelled" if spent_s < self._late_after_s else "deadline"
        return "error"
