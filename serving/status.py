"""The one place where exceptions of the domain become gRPC status.

Knows nothing of the services: they register what their exceptions mean.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

log = logging.getLogger(__name__)

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT

Table = Mapping[type[Any], grpc.StatusCode]


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Runs every handler so that what it raises ends the call with the right status."""

    def __init__(self, table: Table) -> None:
        """table: most specific class first."""
        self._table = table

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        if handler.request_streaming and handler.response_streaming:
            wrap = grpc.stream_stream_rpc_method_handler
            return wrap(self._stream(handler.stream_stream), handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:
            wrap = grpc.unary_stream_rpc_method_handler
            return wrap(self._stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer)
        if not handler.request_streaming:
            wrap = grpc.unary_unary_rpc_method_handler
            return wrap(self._unary(handler.unary_unary), handler.request_deserializer, handler.response_serializer)
        return handler

    def _unary(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(request: Any, context: Any) -> Any:
            try:
                return await method(request, context)
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:
                return await self._abort(context, error)

        return run

    def _stream(self, method: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        # A coroutine that writes, not a generator that yields: when a call is cancelled while a
        # generator waits in `yield`, grpc drops it, and what it holds is free at the next garbage
        # collection only. Here the cancellation arrives in this frame, which closes the generator.
        async def run(request: Any, context: Any) -> None:
            answers = method(request, context)
            try:
                if not hasattr(answers, "__aiter__"):
                    await answers  # reflection and health may write by themselves
                    return
                try:
                    async for answer in answers:
                        await context.write(answer)
                finally:
                    await answers.aclose()
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:
                await self._abort(context, error)

        return run

    async def _abort(self, context: Any, error: Exception) -> None:
        for kind, code in self._table.items():
            if isinstance(error, kind):
                if field := getattr(error, "field", None):
                    await context.abort_with_status(_bad_request(code, field, error))
                await context.abort(code, str(error))
        log.error("internal error", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")


def _bad_request(code: grpc.StatusCode, field: str, error: Exception) -> Any:
    """A status whose details name the field, as google.rpc.BadRequest."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=str(error))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    number = code_pb2.Code.Value(code.name)
    return rpc_status.to_status(status_pb2.Status(code=number, message=str(error), details=[detail]))
