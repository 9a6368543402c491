"""Calls that take more than their share: refused under load, or ended with a silent caller."""

from collections.abc import Sequence

from google.protobuf.message import Message

LONGEST_PAUSE_S = 30.0
SHORTEST_PAUSE_S = 0.1


class OverloadError(Exception):
    """The service has no room for a call now.

    Attributes:
        reason: which bound is reached, as the metric of refusals calls it.
        retry_after_s: when another attempt makes sense.
    """

    def __init__(self, reason: str, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = min(max(retry_after_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)


class LimitError(OverloadError):
    """A caller has reached a limit of its token.

    Attributes:
        fields: those of the request that are beyond a limit at any time, so that it makes no sense
            to come back; empty if waiting helps.
    """

    def __init__(
        self, reason: str, message: str, retry_after_s: float = 1.0, fields: Sequence[str] = ()
    ) -> None:
        super().__init__(reason, f"{' and '.join(fields)}: {message}" if fields else message)
        # A debt may take longer than any queue.
        self.retry_after_s = max(retry_after_s, SHORTEST_PAUSE_S)
        self.fields = tuple(fields)


class NotServedError(Exception):
    """A method of a service that others have defined, and that this one does not offer."""


class UnsentError(Exception):
    """The caller has opened a call and does not send its request."""


class UnreadError(Exception):
    """The caller has not read for too long, and what it holds is given to others.

    Attributes:
        details: what was made and not sent, as messages for the status.
    """

    def __init__(self, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)
