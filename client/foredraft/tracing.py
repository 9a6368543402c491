"""Spans of OpenTelemetry, and their W3C context on the wire.

Without OpenTelemetry, a span does nothing. This module knows nothing of exporters, nor of prompts
and texts, which spans never carry.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # the extra `tracing` is not installed
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

Headers = tuple[tuple[str, str], ...]


class Span:
    """One span, from its making to `end`.

    It is never made current, since a stream can be left in another context than it began in.
    """

    def __init__(
        self,
        name: str,
        kind: Literal["client", "server"],
        fields: Mapping[str, object],
        headers: Iterable[tuple[str, object]] = (),
    ) -> None:
        """Starts a span.

        Args:
            headers: the headers of the call that is served, whose context becomes the parent. The
                parent of a client's span is the current span.
        """
        self._span = None
        if IS_INSTALLED:
            parent = (
                TraceContextTextMapPropagator().extract(dict(headers)) if kind == "server" else None
            )
            kinds = {"client": trace.SpanKind.CLIENT, "server": trace.SpanKind.SERVER}
            self._span = trace.get_tracer("foredraft").start_span(
                name, parent, kinds[kind], _attributes(fields)
            )

    @property
    def headers(self) -> Headers:
        """The headers that carry the span's context in calls that it makes."""
        carrier: dict[str, str] = {}
        if self._span:
            TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self._span))
        return tuple(carrier.items())

    def event(self, name: str, **fields: object) -> None:
        """Records an event of this moment."""
        if self._span:
            self._span.add_event(name, _attributes(fields))

    def end(self, outcome: str, went_well: bool, fields: Mapping[str, object]) -> None:
        """Ends the span; a second call does nothing."""
        if self._span and self._span.is_recording():
            self._span.set_attributes(_attributes({"outcome": outcome, **fields}))
            if not went_well:
                self._span.set_status(trace.StatusCode.ERROR, outcome)
            self._span.end()


def _attributes(fields: Mapping[str, object]) -> dict[str, Any]:
    return {f"foredraft.{name}": value for name, value in fields.items()}
