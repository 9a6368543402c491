"""How many tokens to ask for in a round. Knows nothing of where they come from."""

from target_service.request.plan import Plan

# What "heuristic" came to, by what it began with: it goes on from one call to the next, as it does
# on transformers' assistant; here for all calls of the service.
_KEPT: dict[int, int] = {}


class LengthSchedule:
    """Draft length of one sequence, by transformers' schedules."""

    def __init__(self, plan: Plan) -> None:
        config = plan.config
        lookup = config.HasField("prompt_lookup_num_tokens")
        self._k = config.prompt_lookup_num_tokens if lookup else config.num_assistant_tokens
        schedule = config.num_assistant_tokens_schedule
        self._moves = (
            schedule in ("heuristic", "heuristic_transient") and not lookup and self._k > 0
        )
        self._kept = self._k if schedule == "heuristic" and self._moves else None
        if self._kept is not None:
            self._k = _KEPT.get(self._kept, self._kept)

    def k(self, room: int) -> int:
        """Tokens to propose when `room` more may come: the target adds one of its own."""
        return max(0, min(self._k, room - 1))

    def observe(self, proposed: int, accepted: int) -> None:
        """Two more after a proposal accepted whole, one less otherwise."""
        if self._moves and proposed:
            self._k = min(self._k + 2, 256) if accepted == proposed else max(1, self._k - 1)
            if self._kept is not None:
                _KEPT[self._kept] = self._k
