"""The errors of the SDK.

    ForedraftError
    ├── InvalidRequestError      INVALID_ARGUMENT; also raised before anything is sent
    ├── UnsupportedError         UNIMPLEMENTED, FAILED_PRECONDITION
    ├── UnauthenticatedError     UNAUTHENTICATED
    ├── PermissionDeniedError    PERMISSION_DENIED
    ├── DeadlineExceededError    DEADLINE_EXCEEDED
    ├── OverloadedError          RESOURCE_EXHAUSTED
    ├── UnavailableError         UNAVAILABLE
    ├── UnreadError              ABORTED
    ├── RequestCancelledError    CANCELLED
    └── InternalError            every other status

This module knows nothing of calls: it turns a status into an exception.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from foredraft._types import Result
from foredraft._unreached import unreached

# What gRPC itself says of a deadline, and of a method that a server does not have.
_LATE, _NO_METHOD = "Deadline Exceeded", "Method not found!"
M = TypeVar("M", bound=Message)


class ForedraftError(Exception):
    """The base of all errors.

    `partial` holds what was generated until then, and `request_id` names the call in logs.
    """

    def __init__(
        self, message: str, *, partial: Sequence[Result] = (), request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.partial = list(partial)
        self.request_id = request_id


class InvalidRequestError(ForedraftError, ValueError):
    """The request cannot be honoured.

    `field` names what is wrong, where that is known, and `fields` names all fields that contradict
    one another.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        fields: Sequence[str] = (),
        partial: Sequence[Result] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(message, partial=partial, request_id=request_id)
        self.fields = tuple(fields) or ((field,) if field else ())
        self.field = self.fields[0] if self.fields else None


class UnsupportedError(ForedraftError):
    """The service does not offer this."""


class UnauthenticatedError(ForedraftError):
    """The credential is missing or wrong."""


class PermissionDeniedError(ForedraftError):
    """The credential does not allow this."""


class DeadlineExceededError(ForedraftError, TimeoutError):
    """The timeout of the call has passed."""


class OverloadedError(ForedraftError):
    """The service has no room for the call, or the token of the client is at one of its limits."""


class UnavailableError(ForedraftError, ConnectionError):
    """The service cannot be reached, or the connection was lost."""


class UnreadError(ForedraftError):
    """The stream was not read for so long that the service ended it.

    `partial` also holds tokens that had not been sent yet, as far as they fit the error.
    """


class RequestCancelledError(ForedraftError):
    """The call was cancelled."""


class InternalError(ForedraftError):
    """The service failed."""


TABLE: dict[grpc.StatusCode, type[ForedraftError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.FAILED_PRECONDITION: UnsupportedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.ABORTED: UnreadError,
    grpc.StatusCode.CANCELLED: RequestCancelledError,
}


def from_rpc(
    error: Any,
    partial: Sequence[Result] = (),
    request_id: str = "",
    timeout_s: float | None = None,
) -> ForedraftError:
    """Returns the exception for a failed call of either client, which had `timeout_s` seconds."""
    kind = TABLE.get(error.code(), InternalError)
    message = error.details() or error.code().name
    if kind is DeadlineExceededError:
        message = _late(message, partial, timeout_s)
    if kind is UnavailableError:
        message = unreached(message)
    if message == _NO_METHOD:
        message = "what answers there is no foredraft target service, or an older one without this"
    if kind is InvalidRequestError:
        fields = _fields_in_details(error) or _fields_in_message(message)
        return InvalidRequestError(message, fields=fields, partial=partial, request_id=request_id)
    if kind is InternalError:  # several status codes come here, so the message tells which
        message = f"{error.code().name}: {message}"
    return kind(message, partial=partial, request_id=request_id)


def _late(told: str, partial: Sequence[Result], timeout_s: float | None) -> str:
    """Returns what happened until the deadline; a service may have told why it was late."""
    if _LATE in told and timeout_s is not None:
        told = f"no {'end' if partial else 'answer'} within {timeout_s:g} s"
    tokens = sum(len(result.token_ids) for result in partial)
    return f"{told}; {tokens} token{'s' * (tokens != 1)} in .partial" if partial else told


def _fields_in_message(message: str) -> list[str]:
    """Returns the fields that the service puts before its message, as in "top_p and do_sample: has
    no effect ...".
    """
    named = re.match(r"([a-z][a-z_0-9.]*(?: and [a-z][a-z_0-9.]*)*): ", message)
    return named.group(1).split(" and ") if named else []


def _fields_in_details(error: Any) -> list[str]:
    """Returns the fields that google.rpc.BadRequest names."""
    try:
        from google.rpc import error_details_pb2
    except ImportError:
        return []
    for bad in details_of(error, error_details_pb2.BadRequest):
        return [str(violation.field) for violation in bad.field_violations]
    return []


def details_of(error: Any, kind: type[M]) -> list[M]:
    """Returns the messages of one kind among an error's details, where googleapis-common-protos is
    installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from google.rpc import status_pb2
    except ImportError:
        return []
    found: list[M] = []
    try:
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    message = kind()
                    if detail.Unpack(message):
                        found.append(message)
    except DecodeError:  # details that cannot be read must not hide the error that they come with
        return []
    return found
