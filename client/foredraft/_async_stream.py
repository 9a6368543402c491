"""A generation as it comes, asynchronous. Its blocking twin, `_stream`, differs by `await` alone.

Knows nothing of what the messages say, and of whether a call is repeated: `_course` does.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from foredraft._course import Course
from foredraft._types import Chunk


class AsyncStream:
    """Chunks as they come; also a context manager, which ends the call when it is left.

    Raises, while it is read: a ForedraftError with the tokens so far in `partial`.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._rpc: Any = None

    @property
    def result(self) -> Any:
        """The Result once the stream has ended; a list for several sequences.

        Raises:
            ForedraftError: it has not ended yet, or it failed.
        """
        return self._course.result

    async def close(self) -> None:
        """Ends the call, which frees the service's rows at once. After the end it does nothing."""
        self._course.leave()
        if self._rpc is not None:
            self._rpc.cancel()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        while not self._course.over:
            try:
                if self._rpc is None:
                    self._rpc = self._course.start()
                if (message := await self._rpc.read()) is grpc.aio.EOF:
                    self._course.complete()
                    break
                chunk = self._course.take(message)
            except asyncio.CancelledError:
                await self.close()
                if not _task_is_cancelled():
                    self._course.cancelled()
                raise
            except grpc.aio.AioRpcError as error:
                pause_s = self._course.failed(error)
                self._rpc = None
                await asyncio.sleep(pause_s)
            except BaseException:
                await self.close()
                raise
            else:
                if self._course.over:  # by a stopping criterion: the service does not know
                    self._rpc.cancel()
                if chunk is not None:
                    return chunk
        raise StopAsyncIteration

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        # A loop that was left by `break`, without an `async with`: the service must not go on for
        # nobody. grpc.aio from 1.83 on never collects an abandoned call by itself.
        if self._rpc is not None:
            self._rpc.cancel()


def _task_is_cancelled() -> bool:
    """grpc.aio raises CancelledError also in a task that nobody cancelled, when the call was ended
    here.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
