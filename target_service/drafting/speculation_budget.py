"""The time that assistance may lose before sequences decode plainly.

This module knows nothing of how time is spent.
"""

from dataclasses import dataclass

# The share of plain decoding's time that assistance may cost while it is being tried.
_ALLOWANCE = 0.01
_START_S = 0.2
# The balance is capped, so that old savings do not pay for new losses. Both are in plain rounds.
_MAX_BALANCE_PLAIN = 8
_MAX_BALANCE_ASSISTED = 2
# Debt in plain rounds that is tolerated while the estimates speak for assistance: proposals are
# accepted by chance, and a few bad rounds are no reason to distrust the estimates.
_PATIENCE = 5.0


@dataclass(slots=True)
class SpeculationBudget:
    """The seconds that assistance saved or lost, over all sequences of the service.

    Every round adds an allowance. A sequence in debt decodes plainly, so that no draft service can
    make it much slower than plain decoding.
    """

    balance_s: float = _START_S

    def observe_plain(self, plain_s: float) -> None:
        """Adds the allowance of a round without assistance, which took `plain_s` seconds."""
        gained_s = self.balance_s + _ALLOWANCE * plain_s
        self.balance_s = min(gained_s, _MAX_BALANCE_PLAIN * plain_s)

    def observe_assisted(self, saved_s: float, plain_s: float) -> None:
        """Adds what an assisted round saved, negative if it lost time, and its allowance."""
        gained_s = self.balance_s + saved_s + _ALLOWANCE * plain_s
        self.balance_s = min(gained_s, _MAX_BALANCE_ASSISTED * plain_s)

    def observe_beside_draft(self, lost_s: float, plain_s: float) -> None:
        """Subtracts what a plain round lost while a draft service drafted in vain.

        It takes no more than what is tolerated: the machine may be slow for another reason, which
        plain rounds alone will show.
        """
        least_s = min(self.balance_s, -_PATIENCE * plain_s)
        self.observe_assisted(-lost_s, plain_s)
        self.balance_s = max(self.balance_s, least_s)

    def tolerates(self, plain_s: float) -> bool:
        """Returns whether assistance that the estimates favour may go on."""
        return self.balance_s > -_PATIENCE * plain_s

    def affords(self, cost_s: float) -> bool:
        """Returns whether assistance that the estimates do not favour may be tried at this cost."""
        return self.balance_s > 2 * cost_s
