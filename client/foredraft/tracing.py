"""Spans of OpenTelemetry, where it is installed and the application has set it up, and W3C's
context on the wire.

Without it every function here does nothing. Knows nothing of exporters, and of what prompts and
texts hold: spans never carry that.
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

    It is never made current: streams are left in other contexts than begun.
    """

    def __init__(
        self,
        name: str,
        kind: Literal["client", "server"],
        fields: Mapping[str, Any],
        headers: Iterable[tuple[str, Any]] = (),
    ) -> None:
        """headers: of the call that is served, whose context becomes the parent;

        else the current span is it.
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
        """For the calls that are made on its behalf."""
        carrier: dict[str, str] = {}
        if self._span:
            TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self._span))
        return tuple(carrier.items())

    def event(self, name: str, **fields: Any) -> None:
        """Something happened, at this moment."""
        if self._span:
            self._span.add_event(name, _attributes(fields))

    def end(self, outcome: str, went_well: bool, fields: Mapping[str, Any]) -> None:
        """It is over; a second time does nothing."""
        if self._span and self._span.is_recording():
            self._span.set_attributes(_attributes({"outcome": outcome, **fields}))
            if not went_well:
                self._span.set_status(trace.StatusCode.ERROR, outcome)
            self._span.end()


def _attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"foredraft.{name}": value for name, value in fields.items()}
