"""The messages of a call, the first of which has to come within a time.

This module knows nothing of what messages mean.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.overload import UnsentError

Read = Callable[[bytes], Awaitable[Any]]


class Requests:
    """The messages of a call, read one by one.

    It is no generator: a task may still wait in it when the call is over, and asyncio cannot close
    a generator that runs.
    """

    def __init__(self, raw: AsyncIterator[bytes], read: Read, timeout_s: float | None) -> None:
        """
        Args:
            read: makes a message of bytes.
            timeout_s: how long the first message may take to come; None is for ever.
        """
        self._messages, self._read, self._timeout_s = raw, read, timeout_s
        # Made with the first message: gRPC's own generator must not be left without a start.
        self._raw: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        if self._raw is not None:
            return await self._read(await anext(self._raw))
        self._raw = aiter(self._messages)
        try:
            async with asyncio.timeout(self._timeout_s):
                first = await anext(self._raw)
        except TimeoutError:
            reason = f"the caller sent no whole request in {self._timeout_s:g} s"
            raise UnsentError(reason) from None
        return await self._read(first)

    async def one(self) -> Any:
        """Returns the message of a call that has one.

        Raises:
            InvalidFieldError: it has none, or the message is wrong.
            UnsentError: the message does not come.
        """
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise InvalidFieldError("message", "is missing") from None
        finally:
            if isinstance(self._raw, AsyncGenerator):
                await self._raw.aclose()  # it holds the bytes of the message until then
