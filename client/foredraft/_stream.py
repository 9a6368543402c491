"""A generation as it comes, blocking. Its asynchronous twin, `_async_stream`, differs by `await`
alone.

Knows nothing of what the messages say, and of whether a call is repeated: `_course` does.
"""

import time
from collections.abc import Iterator
from typing import Any

import grpc

from foredraft._course import Course
from foredraft._types import Chunk


class Stream:
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

    def close(self) -> None:
        """Ends the call, which frees the service's rows at once. After the end it does nothing."""
        self._course.leave()
        if self._rpc is not None:
            self._rpc.cancel()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while not self._course.over:
            try:
                if self._rpc is None:
                    self._rpc = self._course.start()
                chunk = self._course.take(next(self._rpc))
            except StopIteration:
                self._course.complete()
            except grpc.RpcError as error:
                pause_s = self._course.failed(error)
                self._rpc = None
                time.sleep(pause_s)
            except BaseException:
                self.close()
                raise
            else:
                if self._course.over:  # by a stopping criterion: the service does not know
                    self._rpc.cancel()
                if chunk is not None:
                    return chunk
        raise StopIteration

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A loop that was left by `break`, without a `with`: the service must not go on for nobody.
        if self._rpc is not None:
            self._rpc.cancel()
