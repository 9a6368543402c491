"""A call to a running service, told so that a client of any kind can make it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from tests.certificates import Files


@dataclass(frozen=True)
class Trust:
    """Whom a client trusts, and what it shows of itself."""

    ca: str
    shown: Files | None = None


@dataclass(frozen=True)
class Call:
    """A method, its requests, and how the call ends."""

    address: str
    method: str
    """Its full name, such as `foredraft.v1.TargetService.Generate`."""
    requests: Sequence[tuple[Message, int]]
    """Each with the number of answers that are awaited before the client goes on."""
    timeout_s: float | None = None
    cancels: bool = False
    """Whether the client cancels after the last of those answers."""
    trust: Trust | None = None
    """None is plain text."""

    @property
    def path(self) -> str:
        service, _, name = self.method.rpartition(".")
        return f"/{service}/{name}"

    @property
    def descriptor(self) -> Any:
        """The method's own descriptor, by this project's generated messages."""
        return descriptor_pool.Default().FindMethodByName(self.method)

    @property
    def answer_type(self) -> type[Message]:
        return message_factory.GetMessageClass(self.descriptor.output_type)


@dataclass(frozen=True)
class Outcome:
    """How a call ended, as the client saw it."""

    code: str
    message: str = ""
    answers: Sequence[Any] = ()
    fields: frozenset[str] = frozenset()
    """The fields that the error's details name."""


class ForeignClient(Protocol):
    """A client that others wrote."""

    name: str

    async def make(self, call: Call) -> Outcome: ...


def named(details: Sequence[Message]) -> frozenset[str]:
    """Returns the fields that details of an error name."""
    return frozenset(
        violation.field
        for detail in details
        if isinstance(detail, error_details_pb2.BadRequest)
        for violation in detail.field_violations
    )


def unpacked(status: bytes) -> list[Message]:
    """Returns the details of a google.rpc.Status that are BadRequest."""
    found: list[Message] = []
    for detail in status_pb2.Status.FromString(status).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.append(bad)
    return found
