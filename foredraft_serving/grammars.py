"""The grammars of response formats: compiled in threads of their own, and kept for their owners.

This module knows nothing of grammars, or of how they are compiled.
"""

import asyncio
from collections.abc import Callable

from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import FIELD, Grammar
from foredraft_engine.sampling import ResponseFormat
from foredraft_serving.worker_pool import WorkerPool

_THREADS, _MAX_WAITING = 2, 64
_MOST_KEPT = 64  # grammars, of all owners together; one takes some ten kilobytes, or many megabytes
_TIMEOUT_S = 20.0


class Grammars:
    """Compiles formats off the event loop and off the device thread, within a time."""

    def __init__(
        self,
        compile_format: Callable[[ResponseFormat], Grammar],
        on_refused: Callable[[str], None] = lambda reason: None,
        on_result: Callable[[str], None] = lambda result: None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """
        Args:
            compile_format: compiles a format, in a thread.
            on_refused: is called with the reason when too many callers wait.
            on_result: is told how each grammar came: it was "compiled", "kept" or "refused".
            timeout_s: the longest time until a grammar is there.
        """
        self._compile, self._on_result, self._timeout_s = compile_format, on_result, timeout_s
        self._threads = WorkerPool("grammars", _THREADS, _MAX_WAITING, on_refused)
        self._kept: dict[tuple[str, ResponseFormat], Grammar] = {}

    async def compiled(self, wanted: ResponseFormat, scope: str) -> Grammar:
        """Returns the grammar of a format.

        Args:
            scope: only calls of the same scope meet what is kept: the time that it saves would tell
                a caller what others have asked for. Nothing is kept where it is empty.

        Raises:
            InvalidFieldError: there is no grammar, or not within the time.
            OverloadError: too many callers wait.
        """
        key = (scope, wanted)
        if (grammar := self._kept.pop(key, None)) is None:
            grammar = await self._compiled(wanted)
            self._on_result("compiled")
        else:
            self._on_result("kept")
        if scope:
            self._kept[key] = grammar  # the last one that is to go
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return grammar

    def close(self) -> None:
        """Ends the threads, after what they do now."""
        self._threads.close()

    async def _compiled(self, wanted: ResponseFormat) -> Grammar:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._threads.run(self._compile, wanted)
        except TimeoutError:
            self._on_result("refused")
            reason = f"is not compiled within {self._timeout_s:g} s; make it smaller"
            raise InvalidFieldError(FIELD, reason) from None
        except InvalidFieldError:
            self._on_result("refused")
            raise
