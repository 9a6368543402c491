"""The blocks of one sequence that came from a draft service and may still be of use.

Knows nothing of streams, or of what a proposal is worth.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import draft_pb2

_MOST = 32  # blocks on two bases: a draft sends two of each


@dataclass(slots=True)
class Received:
    """A block, and when it came."""

    block: draft_pb2.Block
    at: float
    used: bool = False


class Inbox:
    """Blocks on the newest base, and on the one before:

    outcomes of the verification that led to the newest.
    """

    def __init__(self) -> None:
        self.asked_at: dict[int, float] = {}
        """When blocks on a base were asked for, by its length."""
        self._received: list[Received] = []

    def asked(self, length: int) -> None:
        """Blocks on this many committed tokens are asked for now."""
        self.asked_at[length] = time.perf_counter()

    def receive(self, block: draft_pb2.Block) -> str:
        """Keeps a block, or says why not:

        nothing can be on its base any more, or they come without end.
        """
        if block.base_len < min(self.asked_at, default=0):
            return "stale"
        if len(self._received) >= _MOST:
            return "too_many"
        self._received.append(Received(block, time.perf_counter()))
        return ""

    def find(self, tokens: Sequence[int]) -> tuple[Received, draft_pb2.Outcome] | None:
        """The newest outcome on just these tokens:

        whatever the draft took for committed, it fits.
        """
        for received in reversed(self._received):
            base_len = received.block.base_len
            after = list(tokens[base_len:])
            for outcome in received.block.outcomes:
                if base_len + len(outcome.path) == len(tokens) and outcome.path == after:
                    return received, outcome
        return None

    def has_outcomes(self, base_len: int) -> bool:
        """Whether any came for a verification on this base."""
        return any(
            r.block.base_len == base_len and any(o.path for o in r.block.outcomes)
            for r in self._received
        )

    def forget(self, base_len: int) -> int:
        """Drops what is on anything before this base; returns how many blocks came in vain."""
        stale = [r for r in self._received if r.block.base_len < base_len]
        self._received = [r for r in self._received if r.block.base_len >= base_len]
        self.asked_at = {length: at for length, at in self.asked_at.items() if length >= base_len}
        return sum(not r.used for r in stale)
