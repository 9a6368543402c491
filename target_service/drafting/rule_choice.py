"""Chooses the sampling rule of calls that leave it open: neither seeded nor told a rule.

Both rules leave the target's law as it is, and such a call cannot be repeated by a seed of its own.
So the rule is the one under which assistance has shortened rounds most, per token. The other rule
has every sixteenth call, so that it stays measured.

The choice is made before a call begins, from times and counts of earlier calls; it cannot depend on
a token of the call. This module knows nothing of drafts.
"""

from dataclasses import dataclass, field

from foredraft_engine.sampling import Rule

_RULES = (Rule.REJECTION, Rule.COUPLED)
_KEPT = 0.998  # weight of what was measured before, at every round
_FEWEST_ROUNDS = 100.0  # of a rule, before it is judged: some texts, which differ
_TRIAL = 16  # calls
_MIN_GAIN = 1.02  # measurements are too coarse to tell smaller gains


@dataclass(slots=True)
class _Gain:
    """The time that tokens would have taken plainly, beside that which they took."""

    plain_s: float = 0.0
    spent_s: float = 0.0
    rounds: float = 0.0


@dataclass(slots=True)
class RuleChoice:
    """The gain under each rule, over all calls that left it open."""

    _gains: dict[Rule, _Gain] = field(default_factory=lambda: {rule: _Gain() for rule in _RULES})
    _calls: int = 0

    def choose(self) -> Rule:
        """Returns the rule of the next call."""
        self._calls += 1
        rejection, coupled = (self._gains[rule] for rule in _RULES)
        if min(rejection.rounds, coupled.rounds) < _FEWEST_ROUNDS:
            return Rule.COUPLED if coupled.rounds < rejection.rounds else Rule.REJECTION
        best, other = reversed(_RULES) if self._is_better(coupled, rejection) else _RULES
        return other if self._calls % _TRIAL == 0 else best

    def observe(self, rule: Rule, tokens: int, plain_s: float, spent_s: float) -> None:
        """Records a round of a call that left the rule open.

        Args:
            tokens: the number of tokens that it added.
            plain_s: the time of a plain round, which adds one.
            spent_s: the time of this round, waiting included.
        """
        gain = self._gains[rule]
        gain.plain_s = _KEPT * gain.plain_s + tokens * plain_s
        gain.spent_s = _KEPT * gain.spent_s + spent_s
        gain.rounds = _KEPT * gain.rounds + 1

    @staticmethod
    def _is_better(one: _Gain, other: _Gain) -> bool:
        return one.plain_s * other.spent_s > _MIN_GAIN * other.plain_s * one.spent_s
