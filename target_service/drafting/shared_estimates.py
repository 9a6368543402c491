"""What all sequences of a target service estimate together: times of rounds, and acceptance.

This module knows nothing of draft services.
"""

from dataclasses import dataclass, field

from foredraft_engine.sampling import Rule
from foredraft_engine.scheduling.step_times import StepTimes
from target_service.drafting.acceptance_estimate import AcceptanceEstimate, LookupAcceptance
from target_service.drafting.rule_choice import RuleChoice
from target_service.drafting.speculation_budget import SpeculationBudget

_WEIGHT = 0.05  # of a new observation in a running average
# A proposed token costs at least this share of a plain one where a step is shared by many: steps of
# rows of different lengths cost more than those of one row, which were timed at load.
_SHARED_COST = 0.6
_KEPT_STEPS = 8  # the steps after which what was computed of their times is computed again


@dataclass(slots=True)
class SharedEstimates:
    """Estimates that every sequence reads and adds to."""

    step_times: StepTimes
    most_tokens: int = 256
    """The largest number of tokens in a step of several jobs."""
    acceptance: dict[Rule, AcceptanceEstimate] = field(
        default_factory=lambda: {rule: AcceptanceEstimate() for rule in Rule}
    )
    rules: RuleChoice = field(default_factory=RuleChoice)
    lookups: LookupAcceptance = field(default_factory=LookupAcceptance)
    budget: SpeculationBudget = field(default_factory=SpeculationBudget)
    overhead_s: list[float] = field(default_factory=lambda: [0.0005, 0.001])
    """The time of a round outside its step: [of a plain round, of a round with a proposal]."""
    beside_draft_s: float = 0.0
    """The time of a plain round while a draft service drafts in vain; 0 before any."""
    _slowdowns: dict[tuple[int, int], float] = field(default_factory=dict)
    _slowdowns_at: int = 0  # the number of measurements that they were made of

    def step_s(self, k: int, rows: int = 1) -> float | None:
        """Returns the expected time of a step in which every sequence has k proposed tokens or
        alternatives; None before any step was measured.

        Args:
            rows: the number of rows that each sequence feeds.
        """
        tokens = max(1.0, self.step_times.jobs) * rows * (k + 1)
        # More tokens than a step takes are several steps.
        steps = max(1.0, tokens / self.most_tokens)
        step_s = self.step_times.at(tokens / steps)
        return None if step_s is None else steps * step_s

    def slowdown(self, k: int, rows: int = 1) -> float:
        """Returns how many times as long a step takes with k proposed tokens in every sequence as
        without any. It is kept for a few steps, since all sequences ask for it in each.

        Args:
            rows: the number of rows that each sequence feeds.
        """
        if self.step_times.observed >= self._slowdowns_at + _KEPT_STEPS:
            self._slowdowns_at = self.step_times.observed
            self._slowdowns.clear()
        if (found := self._slowdowns.get((k, rows))) is None:
            plain_s, step_s = self.step_s(0, rows), self.step_s(k, rows)
            if not plain_s or not step_s:
                return float("inf")
            # A wider step is never faster; where it seems to be, its time is out of date.
            shared = 1 - 1 / max(1.0, self.step_times.jobs)
            found = max(1 + _SHARED_COST * shared * k, step_s / plain_s)
            self._slowdowns[k, rows] = found
        return found

    def round_s(self, k: int) -> float | None:
        """Returns the expected time of a round, without the time that it waits for a draft."""
        step_s = self.step_s(k)
        return None if step_s is None else step_s + self.overhead_s[k > 0]

    def observe(self, k: int, spent_s: float) -> None:
        """Records the time of a round with k proposed tokens or alternatives, without the time
        that it waited for a draft.
        """
        step_s = self.step_s(k)
        if step_s is not None:
            overhead_s = min(max(0.0, spent_s - step_s), step_s)
            self.overhead_s[k > 0] += _WEIGHT * (overhead_s - self.overhead_s[k > 0])

    def observe_beside_draft(self, spent_s: float, plain_s: float) -> None:
        """Records the time of a plain round while a draft service may have drafted.

        Args:
            spent_s: the time that it took, without the time that it waited for a draft.
            plain_s: the time of such a round while none drafts.
        """
        before_s = self.beside_draft_s or spent_s
        self.beside_draft_s = before_s + _WEIGHT * (min(spent_s, 2 * before_s) - before_s)
        self.budget.observe_beside_draft(min(spent_s, 3 * plain_s) - plain_s, plain_s)
