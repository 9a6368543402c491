"""Every status is a class of errors, which carry what came before and the request's id."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import foredraft
from foredraft import (
    DeadlineExceededError,
    ForedraftError,
    InternalError,
    InvalidRequestError,
    UnreadError,
)
from foredraft._errors import from_rpc
from tests.premises import begins_again, in_time
from tests.sdk.fake_target import FakeTarget, chunk, fails, finished, silent, started

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
EXPECTED = {
    "INVALID_ARGUMENT": "InvalidRequestError",
    "DEADLINE_EXCEEDED": "DeadlineExceededError",
    "UNAVAILABLE": "UnavailableError",
    "RESOURCE_EXHAUSTED": "OverloadedError",
    "CANCELLED": "RequestCancelledError",
    "ABORTED": "UnreadError",
    "UNAUTHENTICATED": "UnauthenticatedError",
    "PERMISSION_DENIED": "PermissionDeniedError",
    "UNIMPLEMENTED": "UnsupportedError",
    "FAILED_PRECONDITION": "UnsupportedError",
}


class Status(grpc.RpcError):
    """A status as gRPC raises it, made by hand. OK is no failure that a server could send."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> Any:
        return None


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_the_table_knows_every_status(code: grpc.StatusCode) -> None:
    error = from_rpc(Status(code), request_id="r")
    assert type(error).__name__ == EXPECTED.get(code.name, "InternalError")
    assert isinstance(error, ForedraftError)
    assert code.name in str(error)
    assert (error.partial, error.request_id) == ([], "r")


@pytest.mark.parametrize(
    "code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK], ids=lambda c: c.name
)
def test_every_status_from_the_wire(
    target: Target, connect: Connect, code: grpc.StatusCode
) -> None:
    fake = target(fails(code, "because", after=2))
    with pytest.raises(
        getattr(foredraft, EXPECTED.get(code.name, "InternalError")), match="because"
    ) as raised:
        connect(fake.address).generate("a")
    assert [(r.token_ids, r.text) for r in raised.value.partial] == [((1, 2), "t1 t2 ")]
    assert raised.value.request_id == fake.requests[0].request_id
    assert len(fake.requests) == 1  # what has begun is never repeated


def test_a_request_that_never_began_has_a_name_too(target: Target, connect: Connect) -> None:
    fake = target(fails(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(foredraft.OverloadedError) as raised:
        connect(fake.address).generate("a")
    assert raised.value.request_id == fake.requests[0].request_id != ""
    assert raised.value.partial == []


def test_partial_results_of_several_sequences(target: Target, connect: Connect) -> None:
    def script(request: Any, context: Any) -> Any:
        yield started(request)
        yield chunk(1, (7,))
        yield chunk(0, (8, 9))
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    stream = connect(target(script).address).stream(["a", "b"])
    seen = []
    with pytest.raises(InternalError, match="INTERNAL: broken") as raised, stream:
        seen.extend(stream)
    assert [(r.sequence_index, r.token_ids) for r in raised.value.partial] == [
        (0, (8, 9)),
        (1, (7,)),
    ]
    assert not seen or len(seen) == 2
    with pytest.raises(InternalError):
        _ = stream.result
    assert list(stream) == []


def details(field: str) -> bytes:
    """Returns a status with google.rpc.BadRequest in it, as it travels."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.BadRequest(field_violations=[{"field": field}]))
    return bytes(status_pb2.Status(code=3, details=[detail]).SerializeToString())


@pytest.mark.parametrize(
    ("message", "metadata", "field"),
    [
        ("top_p: is 2", (("grpc-status-details-bin", details("top_k")),), "top_k"),
        ("top_p: is 2", (("grpc-status-details-bin", b"\xff\xff garbage"),), "top_p"),
        ("top_p: is 2", (), "top_p"),
        ("Something else", (), None),
    ],
)
def test_the_field_of_a_refusal(
    target: Target, connect: Connect, message: str, metadata: Any, field: str | None
) -> None:
    fake = target(fails(grpc.StatusCode.INVALID_ARGUMENT, message, metadata=metadata))
    with pytest.raises(InvalidRequestError, match=message) as raised:
        connect(fake.address).generate("a")
    assert raised.value.field == field


@begins_again
def test_the_timeout_is_a_deadline(target: Target, connect: Connect) -> None:
    fake = target(silent)
    client = connect(fake.address, timeout=300)
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError) as raised:
        client.generate("a", timeout=0.3)
    assert time.monotonic() - began < 60
    in_time(bool(raised.value.partial[0].token_ids), "it ended before anything came")
    assert raised.value.partial[0].token_ids == (1, 2)
    assert isinstance(raised.value, TimeoutError)
    assert fake.left.wait(30)


def test_the_timeout_of_the_client(target: Target, connect: Connect) -> None:
    with pytest.raises(DeadlineExceededError):
        connect(target(silent).address, timeout=0.3).generate("a")


@pytest.mark.parametrize("messages", [[], [chunk(0, (1,))], [finished(0)]])
def test_an_answer_that_stops_short(target: Target, connect: Connect, messages: list[Any]) -> None:
    def script(request: Any, context: Any) -> Any:
        yield started(request)
        yield from messages

    with pytest.raises(InternalError, match="without a result"):
        connect(target(script).address).generate("a")


def test_what_was_not_read_in_time_is_in_the_error(target: Target, connect: Connect) -> None:
    status = status_pb2.Status(code=10, message="unread")
    status.details.add().Pack(chunk(0, (7, 8)).chunk)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    fake = target(fails(grpc.StatusCode.ABORTED, "unread", after=2, metadata=details))
    with pytest.raises(UnreadError) as caught:
        connect(fake.address).generate("a")
    assert caught.value.partial[0].token_ids == (1, 2, 7, 8)
