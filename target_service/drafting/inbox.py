"""The blocks of one sequence that have come from a draft service and may still be useful.

This module knows nothing of streams, or of whether a proposal is valid.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import draft_pb2

_MAX_BLOCKS = 32  # of two bases; a draft service sends two blocks on each


@dataclass(slots=True)
class ReceivedBlock:
    """A block and the time at which it came."""

    block: draft_pb2.Block
    received_at: float
    used: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The request for blocks on one base."""

    at: float
    """When it was made, on the clock of `time.perf_counter`."""
    k: int = 0
    outcomes: int = 0
    """The number of outcomes to draft ahead for."""
    outcomes_before: int | None = None
    """The same for the base before; None if this is the first one."""
    is_waited_for: bool = True
    """Whether a proposal on the base itself is drafted first."""


class Inbox:
    """Blocks that build on the newest committed tokens, or on those of one commit earlier.

    A block of the earlier base holds proposals for outcomes of the verification that led to the
    newest tokens.
    """

    def __init__(self) -> None:
        self._asked: dict[int, Asked] = {}  # by the number of committed tokens
        self._received: list[ReceivedBlock] = []

    def request(
        self, length: int, k: int = 0, outcomes: int = 0, is_waited_for: bool = True
    ) -> None:
        """Records that blocks on the first `length` tokens are requested now."""
        before = self._asked[max(self._asked)].outcomes if self._asked else None
        now = time.perf_counter()
        self._asked[length] = Asked(now, k, outcomes, before, is_waited_for)

    def requested_at(self, length: int, default: float) -> float:
        """Returns when blocks on the first `length` tokens were requested, else the default."""
        asked = self._asked.get(length)
        return asked.at if asked else default

    def asked(self, length: int) -> Asked | None:
        """Returns the request for blocks on the first `length` tokens, if one was made lately."""
        return self._asked.get(length)

    def receive(self, block: draft_pb2.Block) -> str:
        """Keeps a block.

        Returns:
            Why the block was not kept: "stale" if its base is history, "too_many" if the draft
            service floods the target; empty if it was kept.
        """
        if block.base_len < min(self._asked, default=0):
            return "stale"
        if len(self._received) >= _MAX_BLOCKS:
            return "too_many"
        self._received.append(ReceivedBlock(block, time.perf_counter()))
        return ""

    def find(self, tokens: Sequence[int]) -> tuple[ReceivedBlock, draft_pb2.Outcome] | None:
        """Returns the newest outcome that continues exactly these committed tokens."""
        for received in reversed(self._received):
            base_len = received.block.base_len
            after = list(tokens[base_len:])
            for outcome in received.block.outcomes:
                if base_len + len(outcome.path) == len(tokens) and outcome.path == after:
                    return received, outcome
        return None

    def has_outcomes(self, base_len: int) -> bool:
        """Returns whether any proposal was drafted ahead for a verification on this base."""
        return any(
            r.block.base_len == base_len and any(o.path for o in r.block.outcomes)
            for r in self._received
        )

    def forget(self, base_len: int) -> int:
        """Drops the blocks on earlier bases and returns how many of them were never used."""
        stale = [r for r in self._received if r.block.base_len < base_len]
        self._received = [r for r in self._received if r.block.base_len >= base_len]
        self._asked = {n: asked for n, asked in self._asked.items() if n >= base_len}
        return sum(not r.used for r in stale)
