"""The one place where domain exceptions become gRPC status.

This module knows nothing of the services: they register what their exceptions mean.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from foredraft_engine.errors import (
    BrokenLogitsError,
    DeviceLostError,
    DeviceMemoryError,
    InvalidFieldError,
    LateStartError,
)
from foredraft_serving.intake import Intake
from foredraft_serving.overload import OverloadError, UnreadError, UnsentError
from foredraft_serving.requests import Read, Requests

log = logging.getLogger(__name__)

PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED

Table = Mapping[type[Any], grpc.StatusCode]

ENGINE_ERRORS: Table = {
    InvalidFieldError: grpc.StatusCode.INVALID_ARGUMENT,
    DeviceMemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnreadError: grpc.StatusCode.ABORTED,
    UnsentError: grpc.StatusCode.ABORTED,
    OverloadError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    LateStartError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DeviceLostError: grpc.StatusCode.UNAVAILABLE,
    BrokenLogitsError: grpc.StatusCode.INTERNAL,
}
"""The status of what both services' engines raise."""
# How long the status of a call that was not read is kept for a caller that reads again.
_UNREAD_STATUS_S = 30.0


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Runs every handler so that an exception ends the call with the right status."""

    def __init__(self, table: Table, intake: Intake, send_timeout_s: float | None = None) -> None:
        """Registers exceptions.

        Args:
            table: the status of each class, the most specific class first.
            intake: reads the requests.
            send_timeout_s: how long a caller may not send its request, or not read; None is for
                ever.
        """
        self._table, self._intake, self._send_timeout_s = table, intake, send_timeout_s

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        # `request_deserializer` is the generated `FromString` of the request's class.
        read = partial(self._intake.read, handler.request_deserializer.__self__)
        serialize = handler.response_serializer
        # Every call is a stream of bytes to gRPC, so that a request that does not come has an end,
        # and one that cannot be parsed is refused like any other.
        is_one = not handler.request_streaming
        if handler.response_streaming:
            method = handler.unary_stream if is_one else handler.stream_stream
            run = self._stream(method, read, is_one)
        elif is_one:
            run = self._unary(handler.unary_unary, read)
        else:
            return handler
        return grpc.stream_stream_rpc_method_handler(run, None, serialize)

    def _unary(
        self, method: Callable[..., Awaitable[Any]], read: Read
    ) -> Callable[..., Awaitable[None]]:
        async def run(raw: Any, context: Any) -> None:
            try:
                request = await Requests(raw, read, self._send_timeout_s).one()
                await context.write(await method(request, context))
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:
                await self._abort(context, error)

        return run

    def _stream(
        self, method: Callable[..., Any], read: Read, is_one: bool
    ) -> Callable[..., Awaitable[None]]:
        # This is a coroutine that writes and no generator that yields. When a call is cancelled
        # while a generator waits in `yield`, grpc drops the generator, and what it holds is freed
        # only by the next garbage collection. Here the cancellation arrives in this frame, which
        # closes the generator.
        async def run(raw: Any, context: Any) -> None:
            try:
                requests = Requests(raw, read, self._send_timeout_s)
                answers = method(await requests.one() if is_one else requests, context)
                if not hasattr(answers, "__aiter__"):
                    await answers  # reflection and health may write by themselves
                    return
                try:
                    async for answer in answers:
                        await self._write(context, answer, answers)
                finally:
                    await answers.aclose()
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except UnreadError as error:
                # The status waits behind what was not read: a caller that reads again gets both.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_UNREAD_STATUS_S):
                        await self._abort(context, error)
            except Exception as error:
                await self._abort(context, error)

        return run

    async def _write(self, context: Any, answer: Any, answers: Any) -> None:
        """Sends a message; a caller that does not take it in time ends the generator of answers."""
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await context.write(answer)
        except TimeoutError:
            reason = f"the caller read nothing for {self._send_timeout_s:g} s"
            await answers.athrow(UnreadError(reason))
            raise UnreadError(reason) from None

    async def _abort(self, context: Any, error: Exception) -> None:
        for kind, code in self._table.items():
            if isinstance(error, kind):
                if fields := getattr(error, "fields", ()):
                    await context.abort_with_status(_bad_request(code, fields, error))
                if isinstance(error, UnreadError):
                    await context.abort_with_status(_with_details(code, error, *error.details))
                if isinstance(error, OverloadError):
                    await context.abort_with_status(_retry_later(code, error))
                await context.abort(code, str(error))
        log.error("internal error", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")


def _bad_request(code: grpc.StatusCode, fields: Sequence[str], error: Exception) -> Any:
    """Returns a status whose details name the fields, as google.rpc.BadRequest."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=f, description=str(error)) for f in fields
    ]
    return _with_details(code, error, error_details_pb2.BadRequest(field_violations=violations))


def _retry_later(code: grpc.StatusCode, error: OverloadError) -> Any:
    """Returns a status that says when to come back, in RetryInfo and in gRPC's own header."""
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(milliseconds := round(1000 * error.retry_after_s))
    status = _with_details(code, error, info)
    pushback = ("grpc-retry-pushback-ms", str(milliseconds))
    return status._replace(trailing_metadata=(*status.trailing_metadata, pushback))


def _with_details(code: grpc.StatusCode, error: Exception, *messages: Message) -> Any:
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=str(error))
    for message in messages:
        status.details.add().Pack(message)
    return rpc_status.to_status(status)
