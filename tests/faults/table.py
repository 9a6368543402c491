"""The table of the fault suite: what callers noticed of each fault."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foredraft import AsyncClient, ForedraftError

HEADER = ("fault", "requests", "failed", "equal", "longest stall ms", "recovery ms")
_FORMAT = "{:<52} {:>8} {:>6} {:>9} {:>16} {:>11}"


@dataclass
class Outcome:
    """What callers noticed of one fault."""

    fault: str
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    """The error of each request that failed."""
    compared: int = 0
    equal: int = 0
    """The requests whose text is that without a fault, of those that were compared."""
    stall_s: float = 0.0
    """The longest time between two chunks of one call."""
    recovery_s: float = 0.0
    """The longest time from a call with the fault to one that uses the draft again."""

    @property
    def holds(self) -> bool:
        """Whether nothing failed and every text is the one without a fault."""
        return not self.failed and self.equal == self.compared

    def line(self) -> str:
        """Returns the row of the table."""
        equal, stall = f"{self.equal}/{self.compared}", f"{1000 * self.stall_s:.0f}"
        cells = (self.requests, len(self.failed), equal, stall, f"{1000 * self.recovery_s:.0f}")
        return _FORMAT.format(self.fault, *cells)

    async def call(
        self,
        client: AsyncClient,
        prompt: Any,
        expected: Sequence[int] | None,
        at: Callable[[int], None] = lambda came: None,
        **fields: Any,
    ) -> None:
        """Makes a call that meets the fault.

        Args:
            expected: the tokens without a fault; None if no text is promised.
            at: told the number of tokens that came, at the open and after each chunk.
        """
        at(0)
        self.requests += 1
        ids: list[int] = []
        try:
            async with client.stream(prompt, **fields) as stream:
                async for chunk in self._timed(stream):
                    ids += chunk.token_ids
                    at(len(ids))
        except ForedraftError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        if expected is not None:
            self.compared += 1
            self.equal += tuple(ids) == tuple(expected)

    async def _timed(self, stream: Any) -> AsyncIterator[Any]:
        last = time.perf_counter()
        async for chunk in stream:
            now = time.perf_counter()
            self.stall_s, last = max(self.stall_s, now - last), now
            yield chunk

    def recovered(self, began: float) -> None:
        """Records that the draft, which was faulty at `began`, is used again."""
        self.recovery_s = max(self.recovery_s, time.perf_counter() - began)


class FaultTable:
    """Adds rows to the lines that the run prints at its end."""

    def __init__(self, measured: Callable[[str], None]) -> None:
        self._measured = measured
        measured(_FORMAT.format(*HEADER))

    def add(self, outcome: Outcome) -> None:
        """Adds the row of a fault."""
        self._measured(outcome.line())
