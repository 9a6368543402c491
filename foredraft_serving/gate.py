"""The gate in front of a server's own services: who may come in, and who is still inside.

This module knows nothing of what the services do, nor of why the gate closes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

import grpc
import grpc.aio

# Who calls a service of one kind may have the address of one of the other.
_KINDS = {"foredraft.v1.TargetService": "target", "foredraft.v1.DraftService": "draft"}


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls of the services in while it is open, and knows when the last of them has left.

    Other calls are UNAVAILABLE, which clients retry elsewhere. Health and reflection always pass.
    """

    def __init__(self, services: Sequence[str], watches: Collection[str] = ()) -> None:
        """
        Args:
            watches: the methods whose calls tell of the service for as long as it lives, in the
                form `/package.Service/Method`.
        """
        self._services, self._watches = services, watches
        self._watching: set[asyncio.Task[Any]] = set()
        self._inside: set[asyncio.Task[Any]] = set()
        self._cut_off: set[asyncio.Task[Any]] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        # the reason why the gate is closed; empty when it is open
        self.closed = "it loads its model"

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        service = details.method.split("/")[1]
        if service not in self._services:
            if service in _KINDS:
                return grpc.stream_stream_rpc_method_handler(partial(self._redirect, service))
            return await continuation(details)
        if self.closed:
            return grpc.stream_stream_rpc_method_handler(self._refuse)
        handler, is_watch = await continuation(details), details.method in self._watches
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            if method := getattr(handler, kind, None):
                return handler._replace(**{kind: self._counted(method, is_watch)})
        return handler

    async def _refuse(self, requests: Any, context: Any) -> None:
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, f"the service takes no calls: {self.closed}"
        )

    async def _redirect(self, service: str, requests: Any, context: Any) -> None:
        own = " and ".join(_KINDS.get(name, name) for name in self._services)
        message = f"this is a {own} service: give the address of a {_KINDS[service]} service"
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)

    def _counted(
        self, method: Callable[..., Awaitable[Any]], is_watch: bool
    ) -> Callable[..., Awaitable[Any]]:
        async def run(request: Any, context: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            self._inside.add(task)
            if is_watch:
                self._watching.add(task)
            self.empty.clear()
            call = method(request, context)
            del request  # see below
            try:
                return await call
            except grpc.aio.AbortError as error:
                # gRPC keeps the error in a cycle, and its traceback would keep all that the call
                # held, until the next full collection.
                error.__context__ = None
                raise error.with_traceback(None)  # noqa: B904
            except asyncio.CancelledError:
                if task not in self._cut_off:
                    raise
                task.uncancel()
                try:
                    return await context.abort(
                        grpc.StatusCode.UNAVAILABLE, "the service ended before the call did"
                    )
                except grpc.aio.InternalError:
                    # A message is still on its way, behind which gRPC takes no status. The call
                    # ends with its connection.
                    raise asyncio.CancelledError from None
            finally:
                self._cut_off.discard(task)
                self._inside.discard(task)
                self._watching.discard(task)
                if not self._inside:
                    self.empty.set()

        return run

    def cut_off(self) -> None:
        """Ends all running calls as UNAVAILABLE, so that clients can go on elsewhere. gRPC's own
        stop would tell them that they had cancelled.
        """
        self._cancel(self._inside)

    def end_watches(self) -> None:
        """Ends the calls that would last as long as the service, in the same way."""
        self._cancel(self._watching)

    def _cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks - self._cut_off:
            self._cut_off.add(task)
            task.cancel()
