"""What each caller has in use, kept within the limits of its token.

This module knows nothing of what is served. Limits hold for one service: its neighbours count for
themselves.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from foredraft_serving.access.account import Account
from foredraft_serving.access.api_tokens import Limits
from foredraft_serving.overload import LimitError

_MINUTE_S = 60.0


class TokenBucket:
    """The tokens that a caller has used lately. They are forgotten as they would be allowed.

    A call may use more than there is, because nobody knows before how long its answer becomes, and
    an answer is not cut. The next call waits until the debt is paid.
    """

    def __init__(self) -> None:
        self._used, self._at = 0.0, time.monotonic()

    def use(self, tokens: int, per_minute: int) -> None:
        """Records tokens of a prompt or an answer."""
        self._used = self._left(per_minute) + tokens

    def wait_s(self, per_minute: int) -> float:
        """Returns the seconds until a call may begin; 0 if it may now."""
        over = self._left(per_minute) - per_minute
        return 0.0 if over < 0 else (over + 1) * _MINUTE_S / per_minute

    def _left(self, per_minute: int) -> float:
        """Returns what of the use is not forgotten yet."""
        now = time.monotonic()
        self._used = max(0.0, self._used - (now - self._at) * per_minute / _MINUTE_S)
        self._at = now
        return self._used


class _Use:
    """What a caller has in use."""

    def __init__(self) -> None:
        self.sequences = 0
        self.bucket = TokenBucket()


class Quota:
    """What one call takes of what its caller may have."""

    def __init__(self, use: _Use, limits: Limits) -> None:
        self._use, self._limits = use, limits
        self._sequences = 0

    def hold(self, sequences: int, fields: Sequence[str] = ()) -> None:
        """Holds a number of sequences in place of those that it held.

        Args:
            fields: those of the request that ask for them.

        Raises:
            LimitError: they are more than the caller may have, or more than it may have now.
        """
        most, others = self._limits.max_sequences, self._use.sequences - self._sequences
        if sequences > most:
            reason = f"makes {sequences} sequences; this token is allowed {most}"
            raise LimitError("max_sequences", reason, fields=fields)
        if others + sequences > most:
            reason = f"{others} sequences of this token run or wait; it is allowed {most}"
            raise LimitError("max_sequences", reason)
        self._use.sequences += sequences - self._sequences
        self._sequences = sequences

    def use(self, tokens: int) -> None:
        """Records tokens of a prompt or an answer."""
        self._use.bucket.use(tokens, self._limits.tokens_per_minute)

    def begin(self) -> None:
        """Begins with one sequence.

        Raises:
            LimitError: the caller has used its tokens of a minute, or has all its sequences.
        """
        if wait_s := self._use.bucket.wait_s(most := self._limits.tokens_per_minute):
            reason = f"this token is allowed {most} tokens a minute, and has used them"
            raise LimitError("tokens_per_minute", reason, wait_s)
        self.hold(1)

    def end(self) -> None:
        """Gives back the sequences."""
        self._use.sequences -= self._sequences


class Quotas:
    """What all callers have in use, by name."""

    def __init__(self, on_refused: Callable[[str], None] = lambda limit: None) -> None:
        """
        Args:
            on_refused: is called with the name of the limit at every refusal.
        """
        self._uses: dict[str, _Use] = {}
        self._on_refused = on_refused

    @contextmanager
    def enter(self, account: Account) -> Iterator[Quota]:
        """Lets a call in for as long as it lasts, and counts it if a limit ends it.

        Raises:
            LimitError: the caller may not begin one now.
        """
        quota = Quota(self._uses.setdefault(account.name, _Use()), account.limits)
        try:
            quota.begin()
            yield quota
        except LimitError as error:
            self._on_refused(error.reason)
            raise
        finally:
            quota.end()
