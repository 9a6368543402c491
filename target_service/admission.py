"""The bounded queue before the rows: who is let in, who is refused, and when it is too late.

This module knows nothing of how a call is generated, or of the turns in which rows are given.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from foredraft_engine.scheduling.caller import Caller, act_for
from foredraft_serving.overload import OverloadError
from target_service.request.plan import Plan
from target_service.service_rate import ServiceRate
from target_service.settings import TargetSettings

# A sequence that is begun and not finished is lost work, so that estimates are taken longer.
_MARGIN = 1.25
# While rows are free a text that is late costs nobody but its caller, so that only what takes some
# times as long as there is time is refused: an estimate can be wrong.
_DOUBT = 5.0


class Admission:
    """All calls that are inside, and what they wait for."""

    def __init__(
        self, settings: TargetSettings, rows: int, on_refused: Callable[[str], None]
    ) -> None:
        """
        Args:
            rows: the number of rows that sequences share.
            on_refused: is called with the reason of every refusal.
        """
        self._max_calls = settings.max_waiting
        self._max_bytes = settings.max_waiting_bytes
        self._rows, self._on_refused = rows, on_refused
        self._rate = ServiceRate()
        self._tickets: list[Ticket] = []

    @contextmanager
    def enter(
        self, size_bytes: int, owner: str, left_s: float | None, new_tokens: int = 0
    ) -> Iterator["Ticket"]:
        """Lets a call in for as long as it lasts.

        What is sure to be refused later is refused here, before it costs any planning.

        Args:
            size_bytes: the size of its request.
            owner: names its credential.
            left_s: the seconds until its deadline; None if there is none.
            new_tokens: the tokens that it asks for in each sequence; 0 if it does not say.

        Raises:
            OverloadError: the requests of waiting calls take too much memory, the queue is full, or
                the deadline would pass even for a single sequence.
        """
        ticket = Ticket(self, size_bytes, owner, left_s)
        ticket.tokens_each = self._rate.tokens(new_tokens)
        self._check(ticket, sequences=1)
        self._tickets.append(ticket)
        act_for(ticket.caller)
        try:
            yield ticket
        finally:
            self._tickets.remove(ticket)

    def check(self, newcomer: "Ticket", plans: Sequence[Plan]) -> None:
        """Refuses a call that cannot be served in time, or that finds the queue full.

        Raises:
            OverloadError: the call is refused.
        """
        newcomer.wait(plans)
        self._check(newcomer, newcomer.waiting)

    def _check(self, newcomer: "Ticket", sequences: int) -> None:
        load = self._load_beside(newcomer)
        # A call counts once: the sequences of a large one do not shut others out. Those that are
        # being planned while rows are free will not wait for them.
        if load.calls >= self._max_calls + max(0, self._rows - load.running):
            self._refuse("queue", f"{load.calls} calls wait for rows (--max-waiting)")
        if load.size_bytes and load.size_bytes + newcomer.size_bytes > self._max_bytes:
            held = f"waiting requests take {load.size_bytes} bytes (--max-waiting-bytes)"
            self._refuse("bytes", held)
        newcomer.queues = load.running + sequences > self._rows
        ahead_tokens = load.ahead_of(newcomer) if newcomer.queues else 0.0
        wait_s = self._rate.seconds(ahead_tokens) / self._rows
        if wait_s + newcomer.needs_s > newcomer.left_s():
            took = f"the queue takes {wait_s:.1f} s and the text at least {newcomer.needs_s:.1f} s"
            way_out = "give it more time, or ask for fewer tokens"
            has = f"the deadline is in {max(0.0, newcomer.left_s()):.1f} s"
            self._refuse("deadline", f"{has}, but {took}; {way_out}", wait_s)

    def _load_beside(self, newcomer: "Ticket") -> "_Load":
        load = _Load()
        # One pass, because a flood of calls that are refused has to cost those inside little.
        for ticket in self._tickets:
            if ticket.running:
                load.running += ticket.running
                # They have half of their texts to go, on average.
                load.running_tokens += ticket.running * ticket.tokens_each / 2
            if ticket.waiting and ticket is not newcomer:
                load.calls += 1
                load.size_bytes += ticket.size_bytes
                tokens = min(ticket.waiting, newcomer.waiting) * ticket.tokens_each
                load.waiting_tokens[ticket.owner] += tokens
        return load

    @property
    def waiting(self) -> int:
        """The number of sequences inside that wait for a row."""
        return sum(ticket.waiting for ticket in self._tickets)

    @property
    def rate(self) -> ServiceRate:
        """How fast sequences are served."""
        return self._rate

    def _refuse(self, reason: str, message: str, retry_after_s: float = 1.0) -> None:
        self._on_refused(reason)
        raise OverloadError(reason, f"overloaded: {message}", retry_after_s)


@dataclass(slots=True)
class _Load:
    """What is inside beside a newcomer."""

    calls: int = 0
    """The calls with sequences that wait for a row."""
    size_bytes: int = 0
    """The size of their requests."""
    running: int = 0
    """The sequences that have their rows."""
    running_tokens: float = 0.0
    """The tokens that these have to go."""
    waiting_tokens: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The tokens of waiting calls by owner; a call counts with as many sequences as the newcomer
    has.
    """

    def ahead_of(self, newcomer: "Ticket") -> float:
        """Returns how many tokens are generated before the newcomer's, as rows are given by turns:
        of an owner as many as the newcomer's own calls have.
        """
        own = newcomer.waiting * newcomer.tokens_each + self.waiting_tokens[newcomer.owner]
        others = (n for owner, n in self.waiting_tokens.items() if owner != newcomer.owner)
        # The last of its sequences waits for nobody but these.
        waiting = own + sum(min(tokens, own) for tokens in others) - newcomer.tokens_each
        return waiting + self.running_tokens


class Ticket:
    """One call inside."""

    def __init__(
        self, admission: Admission, size_bytes: int, owner: str, left_s: float | None
    ) -> None:
        self.size_bytes, self.owner = size_bytes, owner
        self._rate = admission.rate
        self._admission = admission
        self._deadline = math.inf if left_s is None else time.monotonic() + left_s
        self.waiting, self.running = 1, 0  # one until the plans tell
        self.tokens_each = 0.0
        self.queues = False
        """Whether its sequences have to wait for rows."""
        self.caller = Caller(owner, self._is_late)

    @property
    def needs_s(self) -> float:
        """The seconds that a sequence of this call needs its row, as far as that is sure."""
        factor = _MARGIN if self.queues else 1 / _DOUBT
        return factor * self._rate.seconds(self.tokens_each)

    def left_s(self) -> float:
        """Returns the seconds until the deadline."""
        return self._deadline - time.monotonic()

    def admit(self, plans: Sequence[Plan]) -> None:
        """Lets the planned sequences wait for their rows.

        Raises:
            OverloadError: there is no room for them, or no time.
        """
        self._admission.check(self, plans)

    def wait(self, plans: Sequence[Plan]) -> None:
        """Counts sequences as waiting."""
        self.waiting = sum(plan.sequences for plan in plans)
        self.tokens_each = max(
            self._rate.tokens(plan.max_length - len(plan.tokens)) for plan in plans
        )

    def began(self) -> None:
        """Records that one of the sequences has its row."""
        self.waiting, self.running = self.waiting - 1, self.running + 1

    def left(self, had_row: bool) -> None:
        """Records that one of the sequences is over: it has given its row back, or wants none."""
        if had_row:
            self.running -= 1
        else:
            self.waiting -= 1

    def ended(self, generated: int, allowed: int, spent_s: float) -> None:
        """Records that a sequence ended by itself, `spent_s` after it got its row."""
        self._rate.observe(generated, allowed, spent_s)

    def _is_late(self) -> bool:
        return self.left_s() < self.needs_s
