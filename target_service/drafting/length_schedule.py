"""The draft length of each round, by the schedules of transformers.

This module knows nothing of where proposals come from.
"""

from target_service.request.plan import Plan

_MAX_LENGTH = 256
_MOST_KEPT = 1024  # lengths, of all callers together


class HeuristicLengths:
    """The draft lengths that the "heuristic" schedule has reached, by the length it began with.

    In transformers this schedule goes on from one call to the next, because the assistant model
    keeps its length. Here one object keeps the lengths for all calls of a service, apart by scope:
    how far they have come depends on the text.
    """

    def __init__(self) -> None:
        self._reached: dict[tuple[str, int], int] = {}

    def reached(self, scope: str, first: int) -> int:
        """Returns the length that schedules which began with `first` tokens have reached."""
        return self._reached.get((scope, first), first)

    def update(self, scope: str, first: int, k: int) -> None:
        """Stores the length for later calls of the scope, in place of the one stored longest ago if
        there are too many.
        """
        self._reached.pop((scope, first), None)
        self._reached[scope, first] = k
        if len(self._reached) > _MOST_KEPT:
            del self._reached[next(iter(self._reached))]


class LengthSchedule:
    """The draft length of one sequence."""

    def __init__(self, plan: Plan, heuristic: HeuristicLengths) -> None:
        config = plan.config
        lookup = config.HasField("prompt_lookup_num_tokens")
        schedule = config.num_assistant_tokens_schedule
        self._k = config.prompt_lookup_num_tokens if lookup else config.num_assistant_tokens
        self._first, self._scope = self._k, plan.identity.scope
        self._changes = (
            schedule in ("heuristic", "heuristic_transient") and not lookup and self._k > 0
        )
        self._kept = heuristic if self._changes and schedule == "heuristic" else None
        if self._kept is not None:
            self._k = self._kept.reached(self._scope, self._first)

    def k(self, tokens_left: int) -> int:
        """Returns how many tokens to propose when the sequence may have `tokens_left` more.

        One of these is the target's own token.
        """
        return max(0, min(self._k, tokens_left - 1))

    def observe(self, proposed: int, accepted: int) -> None:
        """Lengthens the proposals by two tokens after one that was accepted whole, and shortens
        them by one token after any other.
        """
        if not self._changes or not proposed:
            return
        self._k = min(self._k + 2, _MAX_LENGTH) if accepted == proposed else max(1, self._k - 1)
        if self._kept is not None:
            self._kept.update(self._scope, self._first, self._k)
