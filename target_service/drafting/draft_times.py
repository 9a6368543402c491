"""What the proposals of one draft service cost under one sampling rule, as running averages, and
for how many outcomes of a verification it is to draft ahead.

Drafting ahead spares the wait for a proposal where the outcome was foreseen. It costs where a tree
is not done in time, or has to be left first where the outcome was not foreseen. So the number of
outcomes is the one whose rounds are the shortest by these averages. None is a number like any
other: the draft then works only while it is waited for.

A number that is not used is not measured. The longer it was not used, the faster it is taken to be,
so that it is tried again: the sooner, the less it is likely to cost.

This module knows nothing of messages or rows. It never learns a token: times and rates decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

from target_service.drafting.linear_time import LinearTime

_NUMBERS = (8, 16, 32)
_TIME_WEIGHT = 0.2  # of a new observation in a running average
_STALE_WEIGHT = 0.5  # the same, after a number of outcomes was not used for a while
_STALE = 50  # rounds
_HIT_WEIGHT = 0.02  # at least; the first observations count more
_PRIOR_VERDICTS = 4.0
_FIRST_S = 0.002  # of a pass or token before any was measured
# So much shorter are rounds taken to be that draft for a number, for each round in which it was not
# used. One that lengthens rounds by a tenth is tried every 50 rounds, which costs two thousandths.
_DRIFT = 0.002
_MOST_UNUSED = 1500


def numbers_of_outcomes(most: int, chooses: bool) -> tuple[int, ...]:
    """Returns the numbers of outcomes to choose among, in rising order.

    Args:
        most: the largest of them.
        chooses: whether there is a choice at all; it is always the largest otherwise.
    """
    return (0, *(n for n in _NUMBERS if n < most), most) if chooses and most else (most,)


EVERY_NUMBER = numbers_of_outcomes(32, chooses=True)


@dataclass(slots=True)
class _Way:
    """What drafting ahead for one number of outcomes brings and costs."""

    hit_rate: float
    """The share of verifications whose outcome was among them."""
    tree_s: LinearTime = field(default_factory=lambda: LinearTime(_FIRST_S))
    """A tree of them, by its passes, with what delays it."""
    proposal_s: LinearTime = field(default_factory=lambda: LinearTime(_FIRST_S))
    """A proposal that is asked for after a miss, by its tokens, with what is left of a pass over
    the tree.
    """
    verdicts: float = _PRIOR_VERDICTS
    unused: int = 0
    """The rounds since it was chosen."""

    @property
    def time_weight(self) -> float:
        """The weight of a new time."""
        return _STALE_WEIGHT if self.unused > _STALE else _TIME_WEIGHT


class DraftTimes:
    """Times and hit rates of one draft service, shared by all sequences that it follows."""

    def __init__(self, numbers: Sequence[int] = EVERY_NUMBER) -> None:
        """Starts from constants.

        Args:
            numbers: the numbers of outcomes to choose among, in rising order.
        """
        self.numbers = tuple(numbers)
        self.network_s = 0.0
        """The part of a round trip in which the draft service does not draft."""
        self._ways: dict[int, _Way] = {}

    def observe_network(self, network_s: float) -> None:
        """Records the part of a round trip in which the draft service did not draft."""
        self.network_s += _TIME_WEIGHT * (max(0.0, network_s) - self.network_s)

    def observe_proposal(self, outcomes: int, draft_s: float, tokens: int) -> None:
        """Records a proposal on the committed tokens, which the target had to wait for.

        Args:
            outcomes: the number that was drafted ahead for when the proposal was asked for.
        """
        way = self._way(outcomes)
        if tokens:
            way.proposal_s.observe(tokens, draft_s, way.time_weight)

    def observe_ahead(self, outcomes: int, draft_s: float, tokens: int) -> None:
        """Records a tree, in which each outcome was to have `tokens` tokens."""
        way = self._way(outcomes)
        way.tree_s.observe(tokens + 1, draft_s, way.time_weight)

    def observe_outcome(self, outcomes: int, hit: bool) -> None:
        """Records whether the outcome of a verification was among those drafted ahead."""
        way = self._way(outcomes)
        way.verdicts += 1
        way.hit_rate += max(_HIT_WEIGHT, 1 / way.verdicts) * (hit - way.hit_rate)

    def hit_rate(self, outcomes: int) -> float:
        """Returns the share of verifications whose outcome is drafted ahead."""
        return self._way(outcomes).hit_rate

    def wait_s(self, k: int, outcomes: int) -> float:
        """Returns the time until a proposal of k tokens arrives that is requested only now."""
        return self.network_s + self._way(outcomes).proposal_s.at(k)

    def ahead_s(self, k: int, outcomes: int) -> float:
        """Returns the time until proposals of k tokens for the outcomes of a verification arrive.

        A tree takes one forward pass over the verified tokens and one more for each drafted token.
        """
        return self.network_s + self._way(outcomes).tree_s.at(k + 1) if outcomes else 0.0

    def round_s(self, k: int, verify_s: float, outcomes: int) -> float:
        """Returns the time of a round in which a proposal that was not drafted ahead is waited for.

        Args:
            verify_s: the time of the round without any waiting.
        """
        hit = self._way(outcomes).hit_rate
        hit_s, miss_s = self.ahead_s(k, outcomes), verify_s + self.wait_s(k, outcomes)
        # Drafting ahead takes place during a round; what takes longer is waited for, too.
        return hit * max(verify_s, hit_s) + (1 - hit) * miss_s

    def best(self, k: int, verify_s: float) -> int:
        """Returns the number of outcomes whose rounds with k tokens are the shortest."""
        return min(self.numbers, key=lambda n: self.round_s(k, verify_s, n))

    def choose(self, k: int, verify_s: float) -> int:
        """Returns for how many outcomes of the next verification to draft ahead.

        Args:
            k: the number of tokens for each.
            verify_s: the time of the round without any waiting.
        """
        chosen = min(
            self.numbers,
            key=lambda n: self.round_s(k, verify_s, n) * (1 - _DRIFT) ** self._way(n).unused,
        )
        for n in self.numbers:
            way = self._way(n)
            way.unused = 0 if n == chosen else min(way.unused + 1, _MOST_UNUSED)
        return chosen

    def _way(self, outcomes: int) -> _Way:
        if outcomes not in self._ways:
            self._ways[outcomes] = _Way(_first_hit_rate(outcomes))
        return self._ways[outcomes]


def _first_hit_rate(outcomes: int) -> float:
    """Returns the hit rate before any verdict: half of what is missed is among four times as many
    outcomes.
    """
    return max(0.0, 1 - 0.4 * sqrt(8 / outcomes)) if outcomes else 0.0
