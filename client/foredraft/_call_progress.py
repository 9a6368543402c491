"""The progress of one call, from its first attempt to its end; the same for both clients.

This module does not read messages: the clients read them, blocking or awaiting, and tell what came.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc

from foredraft._call import Call
from foredraft._channel import Attempts
from foredraft._errors import ForedraftError, RequestCancelledError, UnavailableError
from foredraft._results import ResultBuilder
from foredraft._streamers import StreamerFeed
from foredraft._types import Chunk, Result, Stats
from foredraft.metrics import CallTimer, ClientMetrics
from foredraft.tracing import Span


class CallProgress:
    """The attempts of one call, what they brought, and how it ended."""

    def __init__(
        self,
        call: Call,
        attempts: Attempts,
        metadata: tuple[tuple[str, str], ...],
        metrics: ClientMetrics,
        feed: StreamerFeed | None = None,
    ) -> None:
        self._call, self._attempts, self._metadata = call, attempts, metadata
        self._request = call.request  # of the next attempt: for the rest, once something came
        self._feed = feed or StreamerFeed(None)
        self._results = ResultBuilder(call)
        self._timer = CallTimer(metrics)
        self._span: Span | None = None
        self._began = False
        self._error: ForedraftError | None = None
        self._result: Result | list[Result] | None = None
        self.over = False

    @property
    def result(self) -> Any:
        """The result.

        Raises:
            ForedraftError: there is no result yet, or the call failed.
        """
        if self._error:
            raise self._error
        if self._result is None:
            reason = "it was left before its end" if self.over else "read it to its end first"
            partial, request_id = self._results.partial(), self._call.request.request_id
            raise ForedraftError(
                f"the stream has no result: {reason}", partial=partial, request_id=request_id
            )
        return self._result

    def start(self) -> Any:
        """Starts the next attempt; returns gRPC's call object."""
        self._timer.start()
        self._span = self._span or Span(
            "foredraft.generate", "client", {"request_id": self._call.request.request_id}
        )
        self._began = False
        stub, left_s = self._attempts.stub, self._attempts.left_s()
        metadata = (*self._metadata, *self._span.headers)
        return stub.Generate(self._request, timeout=left_s, metadata=metadata)

    def take(self, message: Any) -> Chunk | None:
        """Takes the next message; returns the chunk in it, if it has one.

        The call is over if the chunk met the last sequence's stopping criterion.
        """
        self._began = True
        part = self._results.add(message)
        if isinstance(part, Chunk):
            self._attempts.progressed()
            self._timer.chunk(part)
            self._feed.chunk(part)
            if self._results.met:
                self.complete()
            return part
        if part is not None:
            self._feed.prompt(part[0] if part else ())
        return None

    def complete(self) -> None:
        """Ends the call: the service ended its answer, or nothing more of it is wanted.

        Raises:
            InternalError: the answer stops short of its end.
        """
        try:
            result = self._results.result()
        except ForedraftError as error:
            self._fail(error, "internal")
        self._result = result
        results = result if isinstance(result, list) else [result]
        self._end("ok", [r.stats for r in results])

    def failed(self, error: Any) -> float:
        """Ends an attempt that failed; returns the seconds to wait before the next one.

        The call is over if all that was wanted had come.

        Raises:
            ForedraftError: there is no next attempt.
        """
        began = self._began and not self._call.resume
        pause_s = None if self.over else self._attempts.next_pause_s(error, began)
        if pause_s is None:
            failure = self._results.error(error, self._attempts.timeout_s)
            self._fail(failure, error.code().name.lower(), error)
        if self._began:
            try:
                rest = self._results.rest(self._timer.elapsed_s)
            except LookupError as reason:
                failure = UnavailableError(
                    f"{error.details()}; resume: {reason}",
                    partial=self._results.partial(),
                    request_id=self._call.request.request_id,
                )
                self._fail(failure, "unavailable", error)
            if rest is None:
                self.complete()
                return 0.0
            self._request = rest
        return pause_s

    def cancelled(self) -> NoReturn:
        """Ends the call, which was ended on this side but not by its reader.

        Raises:
            RequestCancelledError: always.
        """
        partial, request_id = self._results.partial(), self._call.request.request_id
        message = "the stream or its client was closed while it was read"
        self._fail(
            RequestCancelledError(message, partial=partial, request_id=request_id), "cancelled"
        )

    def leave(self) -> None:
        """Ends the call because its reader wants no more; after the end it does nothing."""
        self._end("cancelled")

    def _fail(
        self, failure: ForedraftError, outcome: str, cause: grpc.RpcError | None = None
    ) -> NoReturn:
        self._error = failure
        self._end(outcome)
        raise failure from cause

    def _end(self, outcome: str, stats: Sequence[Stats] = ()) -> None:
        if not self.over:
            self.over = True
            self._timer.end(outcome, stats)
            if self._span:
                sums = {
                    name: sum(getattr(s, name) for s in stats)
                    for name in ("rounds", "proposed", "accepted")
                }
                self._span.end(outcome, outcome in ("ok", "cancelled"), sums)
