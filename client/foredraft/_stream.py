"""A generation as it comes, blocking.

`make generated` makes this file from `_async_stream.py`; do not edit it.

This module knows nothing of what messages say, nor of whether a call is repeated: `_call_progress`
does.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import grpc

from foredraft._call_progress import CallProgress
from foredraft._connections import CallLeftError, read, sleep
from foredraft._types import Chunk, Result

R_co = TypeVar("R_co", bound=Result | list[Result], covariant=True)


class Stream(Generic[R_co]):
    """The chunks of a call as they come, and its result at the end.

    The stream is also a context manager, which ends the call when it is left. While it is read, it
    raises a ForedraftError if the call fails; `partial` of the error holds what came before.
    """

    def __init__(self, progress: CallProgress) -> None:
        self._progress = progress
        self._rpc: Any = None

    @property
    def result(self) -> R_co:
        """The result once the stream has ended; a list for a batch or several sequences.

        Raises:
            ForedraftError: the stream has not ended yet, or it failed.
        """
        result: R_co = self._progress.result
        return result

    def close(self) -> None:
        """Ends the call, which frees the service's rows at once. After the end it does nothing."""
        self._progress.leave()
        if self._rpc is not None:
            self._rpc.cancel()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while not self._progress.over:
            try:
                if self._rpc is None:
                    self._rpc = self._progress.start()
                if (message := read(self._rpc)) is None:
                    self._progress.complete()
                    break
                chunk = self._progress.take(message)
            except CallLeftError:
                self.close()
                self._progress.cancelled()
            except grpc.RpcError as error:
                pause_s = self._progress.failed(error)
                self._rpc = None
                sleep(pause_s)
            except BaseException:
                self.close()
                raise
            else:
                if self._progress.over:  # by a stopping criterion: the service does not know
                    self._rpc.cancel()
                if chunk is not None:
                    return chunk
        raise StopIteration

    def __enter__(self) -> "Stream[R_co]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A loop was left by `break`, without leaving a context: the service must not go on for
        # nobody, and grpc.aio from 1.83 on never collects an abandoned call by itself.
        if self._rpc is not None:
            self._rpc.cancel()
