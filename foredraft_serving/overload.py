"""A call that is refused because too much else is to be done; another target may have room."""

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
