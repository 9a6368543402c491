"""How many tokens to ask for in a round. Knows nothing of where they come from."""

from target_service.plan import Plan


class Lookahead:
    """Draft length of one sequence, by transformers' schedules."""

    def __init__(self, plan: Plan) -> None:
        config = plan.config
        lookup = config.HasField("prompt_lookup_num_tokens")
        self._k = config.prompt_lookup_num_tokens if lookup else config.num_assistant_tokens
        self._moves = config.num_assistant_tokens_schedule == "heuristic_transient" and not lookup and self._k > 0

    def k(self, room: int) -> int:
        """Tokens to propose when `room` more may come: the target adds one of its own."""
        return max(0, min(self._k, room - 1))

    def observe(self, proposed: int, accepted: int) -> None:
        """Two more after a proposal accepted whole, one less otherwise."""
        if self._moves and proposed:
            self._k = min(self._k + 2, 256) if accepted == proposed else max(1, self._k - 1)
