"""Errors of the SDK.

    ForedraftError
    ├── InvalidRequestError      INVALID_ARGUMENT, OUT_OF_RANGE; also raised before anything is sent
    ├── UnsupportedError         UNIMPLEMENTED, FAILED_PRECONDITION, NOT_FOUND
    ├── UnauthenticatedError     UNAUTHENTICATED
    ├── PermissionDeniedError    PERMISSION_DENIED
    ├── DeadlineExceededError    DEADLINE_EXCEEDED
    ├── OverloadedError          RESOURCE_EXHAUSTED
    ├── UnavailableError         UNAVAILABLE
    ├── RequestCancelledError    CANCELLED
    └── InternalError            whatever else

Knows nothing of calls: it turns a status into an exception.
"""

import re
from typing import Any

import grpc

from foredraft._types import Result


class ForedraftError(Exception):
    """The base of all. `partial` holds what was generated until then, `request_id` names the request in logs."""

    def __init__(self, message: str, *, partial: tuple[Result, ...] = (), request_id: str = "") -> None:
        super().__init__(message)
        self.partial = partial
        self.request_id = request_id


class InvalidRequestError(ForedraftError, ValueError):
    """A request that cannot be honoured; `field` names what is wrong with it, where known."""

    def __init__(
        self, message: str, *, field: str | None = None, partial: tuple[Result, ...] = (), request_id: str = ""
    ) -> None:
        super().__init__(message, partial=partial, request_id=request_id)
        self.field = field


class UnsupportedError(ForedraftError):
    """The service does not offer this."""


class UnauthenticatedError(ForedraftError):
    """The credential is missing or wrong."""


class PermissionDeniedError(ForedraftError):
    """The credential does not allow this."""


class DeadlineExceededError(ForedraftError, TimeoutError):
    """The timeout of the call is over."""


class OverloadedError(ForedraftError):
    """The service has no room."""


class UnavailableError(ForedraftError, ConnectionError):
    """Nobody answers, or the connection was lost."""


class RequestCancelledError(ForedraftError):
    """The call was cancelled."""


class InternalError(ForedraftError):
    """The service failed."""


TABLE: dict[grpc.StatusCode, type[ForedraftError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.FAILED_PRECONDITION: UnsupportedError,
    grpc.StatusCode.NOT_FOUND: UnsupportedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: RequestCancelledError,
}


def from_rpc(error: Any, partial: tuple[Result, ...] = (), request_id: str = "") -> ForedraftError:
    """The exception for a failed call, sync or async."""
    kind = TABLE.get(error.code(), InternalError)
    message = error.details() or error.code().name
    if kind is InvalidRequestError:
        # The service begins such a message with the field: "top_p: is 2; it must be in (0, 1]".
        named = re.match(r"([a-z_]+): ", message)
        field = named.group(1) if named else None
        return InvalidRequestError(message, field=field, partial=partial, request_id=request_id)
    return kind(message, partial=partial, request_id=request_id)
