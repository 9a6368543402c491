"""One trace from the SDK through the target to the draft, as a collector receives it."""

import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.integration.processes import MODELS, environment, free_port, service

# An application that has set up OpenTelemetry for itself.
_APPLICATION = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from foredraft import Client
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
with trace.get_tracer("app").start_as_current_span("answer"), Client(sys.argv[1]) as client:
    client.generate("def main(", max_new_tokens=24, eos_token_id=[])
provider.shutdown()
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps spans with the name of their service."""

    def __init__(self) -> None:
        self.spans: queue.Queue[tuple[str, Any]] = queue.Queue()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            named = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put((named["service.name"], span))
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def _collector() -> Iterator[tuple[Collector, str]]:
    server, collector, port = grpc.server(futures.ThreadPoolExecutor(2)), Collector(), free_port()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_one_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _collector() as (collector, endpoint):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with service(
            "draft", tmp_path / "draft.log", "--model", str(MODELS / "draft"), "--tracing"
        ) as draft:
            flags = ("--model", str(MODELS / "target"), "--draft", draft.address, "--tracing")
            with service("target", tmp_path / "target.log", *flags) as target:
                command = [sys.executable, "-c", _APPLICATION, target.address]
                subprocess.run(command, env=environment(), check=True, timeout=60)
                found: dict[str, tuple[str, Any]] = {}
                while len(found) < 4:
                    name, span = collector.spans.get(timeout=20)
                    found[span.name] = name, span
    names = ("answer", "foredraft.generate", "foredraft.target.Generate", "foredraft.draft.Draft")
    chain = [found[name][1] for name in names]
    assert len({span.trace_id for span in chain}) == 1
    for parent, child in pairwise(chain):
        assert child.parent_span_id == parent.span_id
    assert found["foredraft.target.Generate"][0] == "foredraft-target"
    assert found["foredraft.draft.Draft"][0] == "foredraft-draft"
    told = [{a.key: a.value for a in span.attributes} for span in chain[1:]]
    assert len({t["foredraft.request_id"].string_value for t in told}) == 1
    assert told[0]["foredraft.outcome"].string_value == "ok"
    assert told[0]["foredraft.accepted"].int_value == told[1]["foredraft.accepted"].int_value > 0
    assert told[2]["foredraft.proposed"].int_value > 0
    assert [event.name for event in chain[2].events] == ["row", "first_tokens"]


def _without_the_extra(code: str) -> "subprocess.CompletedProcess[str]":
    hidden = "import sys; sys.modules['opentelemetry'] = None; "
    command = [sys.executable, "-c", hidden + code]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


def test_the_sdk_does_without_the_extra() -> None:
    code = (
        "from foredraft.tracing import Span; s = Span('a', 'client', {}); print(s.headers); "
        "s.end('ok', True, {})"
    )
    assert _without_the_extra(code).stdout == "()\n"


def test_a_service_asks_for_the_extra() -> None:
    start = "import runpy; sys.argv[1:] = ['--ngram', 'only', '--tracing']; "
    told = _without_the_extra(start + "runpy.run_module('draft_service', run_name='__main__')")
    assert told.returncode == 1
    assert "--tracing needs the extra" in told.stderr
