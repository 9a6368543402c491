"""What the end of a draft stream says: about the connection, the service, or that sequence alone.

Only the loss of the transport counts against a draft service. An error that answers one sequence
says nothing about it to others, and a service of another kind is called by its name.

This module knows nothing of sequences or of connections.
"""

from enum import Enum, auto

import grpc

from foredraft.tls_faults import tls_fault


class StreamEnd(Enum):
    """How a draft stream ended."""

    LOST = auto()
    """The transport failed: nobody is served until it is back."""
    WRONG = auto()
    """The address answers, but not as a draft service for this target."""
    REFUSED = auto()
    """The service takes this sequence not, or not now: its values are to blame, or the load."""
    FAULTY = auto()
    """The service failed in this sequence, or sent what cannot be verified."""


_LOST = frozenset([grpc.StatusCode.UNAVAILABLE])
_REFUSED = frozenset(
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    ]
)
# What a draft service asks a target for, by the flag that gives it.
_NOT_ALLOWED = {
    grpc.StatusCode.UNAUTHENTICATED: "--draft-token",
    grpc.StatusCode.PERMISSION_DENIED: "--draft-cert",
}
# What gRPC says of a server that answers in another protocol.
_NO_GRPC = ("http1", "Failed parsing HTTP/2")


def stream_end(code: grpc.StatusCode, details: str) -> tuple[StreamEnd, str]:
    """Returns how a stream ended that has this status, and the reason for people."""
    told = f"{code.name}: {tls_fault(details) or details}"
    if flag := _NOT_ALLOWED.get(code):
        return StreamEnd.WRONG, f"it does not serve this target, see {flag} ({told})"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return StreamEnd.WRONG, f"it is no draft service for this target ({told})"
    if any(sign in details for sign in _NO_GRPC):
        return StreamEnd.WRONG, f"it does not speak gRPC, so it is no draft service ({told})"
    if code in _LOST:
        return StreamEnd.LOST, told
    return (StreamEnd.REFUSED if code in _REFUSED else StreamEnd.FAULTY), told
