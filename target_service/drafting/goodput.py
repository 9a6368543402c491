"""Chooses how many tokens to draft, and what to do without a proposal, so that tokens per second
are highest (Liu et al., "Optimizing Speculative Decoding for Serving Large Language Models Using
Goodput", arXiv 2406.14066).

The estimates behind the choice are the target's step time by its width in tokens, the draft's time
by token, the network's time by block, and the acceptance rate by position. Beyond the estimates, a
budget counts what assistance really saved and cost.

This module knows nothing of messages or rows.
"""

from foredraft_engine.proposal import Proposal, Verdict
from foredraft_engine.sampling import Rule
from target_service.drafting.acceptance_estimate import ALTERNATIVE_COUNTS, AcceptanceEstimate
from target_service.drafting.draft_times import DraftTimes
from target_service.drafting.ngram_lookup import Lookup
from target_service.drafting.shared_estimates import SharedEstimates

_MIN_GAIN = 1.02  # estimates are too coarse to tell smaller gains
_FIRST_K = 5  # tokens to draft before anything was measured
_TRIAL_K = 3  # tokens to draft at most where assistance does not seem to pay


class Goodput:
    """Chooses for one sequence."""

    def __init__(
        self,
        shared: SharedEstimates,
        max_k: int,
        max_alternatives: int = 0,
        rule: Rule = Rule.GREEDY,
    ) -> None:
        """Creates the choice of one sequence.

        Args:
            shared: the estimates of all sequences.
            max_k: the largest number of tokens in a proposal.
            max_alternatives: the largest number of alternatives to these tokens.
            rule: the rule by which the sequence accepts.
        """
        self._shared, self._max_k, self._max_alternatives = shared, max_k, max_alternatives
        self._of_all = shared.acceptance[rule]
        self._acceptance = AcceptanceEstimate(self._of_all)

    def k(self, max_k: int, times: DraftTimes | None) -> int:
        """Returns how many tokens to draft, at most `max_k`; 0 where plain decoding is faster."""
        max_k = min(max_k, self._max_k)
        plain_s = self._shared.round_s(0)
        if max_k <= 0 or times is None or plain_s is None:
            return max(0, min(max_k, _FIRST_K))
        lengths = self._acceptance.mean_lengths(max_k)
        rate, k = max(
            (self._tokens_per_s(k, lengths[k], times, plain_s), -k) for k in range(1, max_k + 1)
        )
        k = -k
        budget = self._shared.budget
        if rate * plain_s > _MIN_GAIN:
            return k if budget.tolerates(plain_s) else 0
        # Assistance does not pay by these estimates. It is tried again within the budget, because
        # the estimates only change when it is.
        trial_k = min(k, _TRIAL_K)
        longer_s = (self._shared.round_s(trial_k) or plain_s) - plain_s
        cost_s = longer_s + times.wait_s(trial_k, times.numbers[0])
        return trial_k if budget.affords(max(cost_s, 0.05 * plain_s)) else 0

    def alternatives(self, k: int, times: DraftTimes | None) -> int:
        """Returns how many alternatives to k proposed tokens to request."""
        plain_s = self._shared.round_s(0)
        if not k or not self._max_alternatives or times is None or plain_s is None:
            return 0
        ahead = times.best(k, self._shared.round_s(k) or plain_s)
        waiting_s = (1 - times.hit_rate(ahead)) * times.wait_s(k, ahead)
        rates = []
        for count in {min(n, self._max_alternatives) for n in ALTERNATIVE_COUNTS}:
            round_s = self._shared.round_s(k + count) or 0.0
            rates.append((self._acceptance.mean_length(k, count) / (round_s + waiting_s), -count))
        best, without = max(rates), next(rate for rate, count in rates if not count)
        return -best[1] if best[0] > _MIN_GAIN * without else 0

    def waits(self, k: int, outcomes: int, times: DraftTimes, lookup: Lookup) -> bool:
        """Returns whether to wait for a proposal of k tokens, as none was drafted ahead.

        The other way is to go on at once with what was looked up, or plainly if that is nothing.

        Args:
            outcomes: the number of outcomes that were drafted ahead for, in vain.
        """
        round_s, at_once = self._shared.round_s(k), self._lookup_rate(lookup)
        if round_s is None or at_once is None:
            return True
        return self._acceptance.mean_length(k) / (round_s + times.wait_s(k, outcomes)) > at_once

    def prefers(self, lookup: Lookup, k: int, alternatives: int) -> bool:
        """Returns whether what was looked up promises more than a proposal that has come.

        The answer depends on what was requested, not on what came: under the rejection rule it
        would bias what is accepted to drop a proposal because of its tokens, or of their number.
        """
        round_s, at_once = self._shared.round_s(k + alternatives), self._lookup_rate(lookup)
        if not lookup.proposal.ids or round_s is None or at_once is None:
            return False
        return at_once > self._acceptance.mean_length(k, alternatives) / round_s

    def observe(
        self,
        proposal: Proposal,
        verdict: Verdict,
        round_s: float,
        waited_s: float,
        looked_up: bool = False,
        beside_draft: bool = False,
    ) -> None:
        """Records one round.

        Args:
            proposal: what was verified.
            verdict: what became of it.
            round_s: from the request for the proposal to the verdict.
            waited_s: the part of `round_s` in which the target waited for the proposal.
            looked_up: whether the target looked the proposal up itself. The draft service then
                answers for nothing but `waited_s`.
            beside_draft: whether a draft service may have drafted meanwhile, which slows the round
                down where it shares the target's cores.
        """
        shared, proposed = self._shared, len(proposal.ids)
        in_vain = beside_draft and not proposed
        if not in_vain:
            shared.observe(proposed + len(proposal.alternatives), round_s - waited_s)
        plain_s = shared.round_s(0)
        if plain_s is None:
            return
        if proposed and not looked_up:
            # A stall of the target is no one's fault.
            spent_s = min(round_s, 3 * plain_s + waited_s)
            saved_s = (verdict.accepted + 1) * plain_s - spent_s
            shared.budget.observe_assisted(saved_s, plain_s)
            self._observe_acceptance(proposal, verdict)
            return
        if waited_s:
            shared.budget.observe_assisted(-waited_s, plain_s)
        if in_vain:
            shared.observe_beside_draft(round_s - waited_s, plain_s)
        elif not waited_s:
            shared.budget.observe_plain(plain_s)

    def _observe_acceptance(self, proposal: Proposal, verdict: Verdict) -> None:
        proposed, alternatives = len(proposal.ids), len(proposal.alternatives)
        accepted = verdict.accepted - verdict.used_alternative
        for acceptance in (self._acceptance, self._of_all):
            acceptance.observe(proposed, accepted)
            if alternatives and accepted < proposed:
                acceptance.observe_rescue(alternatives, verdict.used_alternative)

    def _lookup_rate(self, lookup: Lookup) -> float | None:
        """Returns the expected tokens per second of a round with what was looked up."""
        round_s = self._shared.round_s(len(lookup.proposal.ids))
        return None if round_s is None else lookup.length / round_s

    def _tokens_per_s(self, k: int, length: float, times: DraftTimes, plain_s: float) -> float:
        """Returns the expected tokens per second of rounds with k proposed tokens, drafted ahead
        for as many outcomes as pay.

        After a miss the target waits or decodes plainly, whichever is faster.

        Args:
            length: the mean acceptance length.
        """
        round_s, missed_s = self._shared.round_s(k), max(plain_s, self._shared.beside_draft_s)
        assert round_s is not None
        rates = []
        for n in times.numbers:
            rates.append(length / times.round_s(k, round_s, n))
            if n:
                hit, ahead_s = times.hit_rate(n), times.ahead_s(k, n)
                spent_s = hit * max(round_s, ahead_s) + (1 - hit) * max(missed_s, ahead_s)
                rates.append((hit * length + 1 - hit) / spent_s)
        return max(rates)
