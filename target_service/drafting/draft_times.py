"""What the proposals of one draft service cost, as running averages.

This module knows nothing of messages or rows.
"""

from dataclasses import dataclass

_WEIGHT = 0.05  # of a new observation in a running average
_TIME_WEIGHT = 4 * _WEIGHT  # times are seldom observed while most outcomes are hits


@dataclass(slots=True)
class DraftTimes:
    """Times and the hit rate of one draft service, shared by all sequences that it follows."""

    network_s: float = 0.0
    """The part of a round trip in which the draft service does not draft."""
    token_s: float = 0.002
    """Drafting one token of a proposal on the committed tokens."""
    hit_rate: float = 0.5
    """The share of verifications whose outcome was drafted ahead."""
    pass_s: float = 0.002
    """One forward pass over a tree of outcomes."""

    def observe_proposal(self, round_trip_s: float, draft_s: float, tokens: int) -> None:
        """Records a proposal on the committed tokens, which the target had to wait for."""
        self.network_s += _TIME_WEIGHT * (max(0.0, round_trip_s - draft_s) - self.network_s)
        if tokens:
            self.token_s += _TIME_WEIGHT * (draft_s / tokens - self.token_s)

    def observe_ahead(self, draft_s: float, tokens: int) -> None:
        """Records a block of proposals, drafted ahead, of which the longest has `tokens` tokens."""
        self.pass_s += _TIME_WEIGHT * (draft_s / (tokens + 1) - self.pass_s)

    def observe_outcome(self, hit: bool) -> None:
        """Records whether the outcome of a verification was among those drafted ahead."""
        self.hit_rate += _WEIGHT * (hit - self.hit_rate)

    def wait_s(self, k: int) -> float:
        """Returns the time until a proposal of k tokens arrives that is requested only now."""
        return self.network_s + k * self.token_s

    def ahead_s(self, k: int) -> float:
        """Returns the time until proposals of k tokens for all outcomes of a verification arrive.

        A tree takes one forward pass over the verified tokens and one more for each drafted token.
        """
        return self.network_s + (k + 1) * self.pass_s
