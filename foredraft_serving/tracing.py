"""Spans of the calls that a service serves, exported by OTLP as OpenTelemetry's own OTEL_ variables
say.

This module knows nothing of the services.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from foredraft.tracing import Headers, Span
from foredraft_serving.logs import request_id
from foredraft_serving.settings import SettingsError

_span: ContextVar[Span | None] = ContextVar("span", default=None)


def serve_span(name: str, metadata: Any) -> Span:
    """Returns the span of the call that this task serves; the caller's span is its parent."""
    span = Span(name, "server", {"request_id": request_id()}, metadata or ())
    _span.set(span)
    return span


def event(name: str, **fields: Any) -> None:
    """Records an event of the call that this task serves."""
    if span := _span.get():
        span.event(name, **fields)


def headers() -> Headers:
    """Returns headers for calls on behalf of the call that this task serves."""
    span = _span.get()
    return span.headers if span else ()


@contextmanager
def exporting(service: str, is_wanted: bool) -> Iterator[None]:
    """Exports spans, if they are wanted, until the context is left, which waits for the last of
    them.

    Raises:
        SettingsError: the packages that this takes are not installed.
    """
    if not is_wanted:
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "--tracing needs the extra `tracing`: pip install 'foredraft[tracing]'"
        ) from error
    # The environment's name of the service goes before this one.
    resource = Resource({"service.name": f"foredraft-{service}"}).merge(
        OTELResourceDetector().detect()
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
