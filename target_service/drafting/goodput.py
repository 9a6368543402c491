"""How many tokens to draft, and what to do without a proposal: whatever brings the most tokens per
second.

The target's step time is measured by its width in tokens, the draft's time by token, the network's
by block, and acceptance by position (Liu et al., arXiv 2406.14066). Beyond that a ledger counts
what assistance saved and what it cost; in debt, a sequence decodes plainly, so that no draft can
make it much slower than without.

Knows nothing of messages or rows.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from foredraft_engine.proposal import Proposal, Verdict
from foredraft_engine.scheduling.step_times import StepTimes

_WEIGHT = 0.05
_PRIOR = 4.0  # rounds' worth of what is believed before any
_BELIEVED = 0.7  # of the first token, before any
_DECAY = 0.97
_LONGEST = 32  # positions whose acceptance is told apart
# Of the time that plain decoding would take, what assistance may cost at most while it is tried.
_ALLOWANCE = 0.01
_PATIENCE = 5.0  # rounds' time that assistance may owe while the estimates speak for it
_GAIN = 1.02  # below that, estimates are too coarse to tell
_FIRST = 5  # tokens, before anything was measured
_TRIED = 3  # tokens, where it does not seem to pay
_BESIDE = (0, 4, 8, 16, 32)  # alternatives that are weighed against each other


@dataclass(slots=True)
class DraftTimes:
    """What a proposal of one draft service costs, as running averages."""

    network_s: float = 0.0
    token_s: float = 0.002
    hit_rate: float = 0.5
    pass_s: float = 0.002
    """Of a tree that is drafted ahead: one over what is verified, one more for each token."""

    def proposed(self, round_trip_s: float, draft_s: float, tokens: int) -> None:
        """A proposal that was waited for came."""
        self.network_s += 4 * _WEIGHT * (max(0.0, round_trip_s - draft_s) - self.network_s)
        if tokens:
            self.token_s += 4 * _WEIGHT * (draft_s / tokens - self.token_s)

    def pushed(self, draft_s: float, tokens: int) -> None:
        """Proposals of so many tokens came that were drafted ahead."""
        self.pass_s += 4 * _WEIGHT * (draft_s / (tokens + 1) - self.pass_s)

    def foresaw(self, hit: bool) -> None:
        """A verification went as it was drafted ahead for, or not."""
        self.hit_rate += _WEIGHT * (hit - self.hit_rate)

    def wait_s(self, k: int) -> float:
        """Of a proposal of k tokens that is asked for only now."""
        return self.network_s + k * self.token_s

    def ahead_s(self, k: int) -> float:
        """From telling the draft what is verified to proposals of k tokens for its outcomes."""
        return self.network_s + (k + 1) * self.pass_s


class Acceptance:
    """How often the token at a position is accepted if all before it are."""

    def __init__(self, before: "Acceptance | None" = None) -> None:
        """before: what was seen elsewhere, believed until this one has seen enough."""
        self._believed = before.rates(_LONGEST) if before else None
        self._stood = [0.0] * _LONGEST
        self._tried = [0.0] * _LONGEST
        self._belief = [_PRIOR] * _LONGEST  # rounds' worth of what is believed
        # By numbers of alternatives.
        saved = [before.saved(n) for n in _BESIDE[1:]] if before else [0.35, 0.45, 0.55, 0.6]
        self._saved = [[_PRIOR * rate, _PRIOR] for rate in saved]

    def rates(self, k: int) -> list[float]:
        """At the first k positions; where nothing was seen yet, as at the one before."""
        rates: list[float] = []
        for i in range(min(k, _LONGEST)):
            believed = self._believed[i] if self._believed else rates[-1] if rates else _BELIEVED
            rates.append(
                (self._stood[i] + self._belief[i] * believed) / (self._tried[i] + self._belief[i])
            )
        return rates + rates[-1:] * (k - len(rates))

    def observe(self, proposed: int, accepted: int) -> None:
        """One verification."""
        for i in range(min(proposed, accepted + 1, _LONGEST)):
            self._belief[i] *= _DECAY
            self._tried[i] = _DECAY * self._tried[i] + 1
            self._stood[i] = _DECAY * self._stood[i] + (i < accepted)

    def length(self, k: int, alternatives: int = 0) -> float:
        """Expected tokens of a round with k proposed ones."""
        length, reached = 1.0, 1.0
        for rate in self.rates(k):
            reached *= rate
            length += reached
        return length + (1 - reached) * self.saved(alternatives)

    def saved(self, alternatives: int) -> float:
        """How often a proposal that is not accepted whole goes on in one of its alternatives."""
        if not alternatives:
            return 0.0
        stood, tried = self._saved[_bucket(alternatives)]
        return stood / tried

    def went_beside(self, alternatives: int, stood: bool) -> None:
        """A proposal with alternatives was not accepted whole; whether one of these stood."""
        counts = self._saved[_bucket(alternatives)]
        counts[:] = [_DECAY * counts[0] + stood, _DECAY * counts[1] + 1]


def _bucket(alternatives: int) -> int:
    return min(bisect_left(_BESIDE, alternatives), len(_BESIDE) - 1) - 1


@dataclass(slots=True)
class Ledger:
    """Seconds that assistance saved or cost, of all sequences of the service."""

    balance_s: float = 0.2

    def plain(self, step_s: float) -> None:
        """A round without assistance: the allowance grows."""
        self.balance_s = min(self.balance_s + _ALLOWANCE * step_s, 8 * step_s)

    def assisted(self, saved_s: float, step_s: float) -> None:
        """A round with assistance; old savings do not pay for new losses."""
        self.balance_s = min(self.balance_s + saved_s + _ALLOWANCE * step_s, 2 * step_s)


@dataclass(slots=True)
class Estimates:
    """What all sequences of a target share."""

    step_times: StepTimes
    acceptance: Acceptance = field(default_factory=Acceptance)
    ledger: Ledger = field(default_factory=Ledger)
    besides_s: list[float] = field(default_factory=lambda: [0.0005, 0.001])
    """Of a round, besides its step: plain, and with a proposal."""

    def step_s(self, k: int) -> float | None:
        """Expected time of a step in which every sequence has k proposed tokens or alternatives;

        None before any.
        """
        return self.step_times.at(max(1.0, self.step_times.jobs) * (k + 1))

    def round_s(self, k: int) -> float | None:
        """The same of a round, without what it waits for a draft."""
        step_s = self.step_s(k)
        return None if step_s is None else step_s + self.besides_s[k > 0]

    def observe(self, proposed: int, spent_s: float) -> None:
        """A round with so many proposed tokens took so long, without what it waited."""
        step_s = self.step_s(proposed)
        if step_s is not None:
            besides_s = min(max(0.0, spent_s - step_s), step_s)
            self.besides_s[proposed > 0] += _WEIGHT * (besides_s - self.besides_s[proposed > 0])


class Goodput:
    """Chooses for one sequence."""

    def __init__(self, shared: Estimates, bound: int, alternatives: int = 0) -> None:
        """bound: tokens of a proposal, at most; alternatives: to them, at most."""
        self._shared, self._bound, self._most_beside = shared, bound, alternatives
        self._acceptance = Acceptance(shared.acceptance)
        self._found_length = 1.3  # tokens of a round with an n-gram proposal

    def k(self, bound: int, times: DraftTimes | None) -> int:
        """Tokens to ask for, at most `bound`; 0 where plain decoding is faster."""
        bound = min(bound, self._bound)
        plain_s = self._shared.round_s(0)
        if bound <= 0 or times is None or plain_s is None:
            return max(0, min(bound, _FIRST))
        k, rate = max(
            ((k, self._rate(k, times, plain_s)) for k in range(1, bound + 1)),
            key=lambda pair: pair[1],
        )
        ledger = self._shared.ledger
        if rate * plain_s > _GAIN:
            # Proposals are accepted by chance: a few bad rounds are no reason to distrust the
            # estimates.
            return k if ledger.balance_s > -_PATIENCE * plain_s else 0
        # It does not pay by these estimates; they are tried again as far as the allowance goes.
        tried = min(k, _TRIED)
        cost_s = (self._shared.round_s(tried) or plain_s) - plain_s + times.wait_s(tried)
        return tried if ledger.balance_s > 2 * max(cost_s, 0.05 * plain_s) else 0

    def alternatives(self, k: int, times: DraftTimes | None) -> int:
        """How many to ask for beside k tokens."""
        if not k or not self._most_beside or times is None or self._shared.round_s(0) is None:
            return 0
        waiting_s = (1 - times.hit_rate) * times.wait_s(k)
        rates = []
        for beside in {min(n, self._most_beside) for n in _BESIDE}:
            round_s = self._shared.round_s(k + beside) or 0.0
            rates.append((self._acceptance.length(k, beside) / (round_s + waiting_s), -beside))
        best, without = max(rates), next(rate for rate, beside in rates if not beside)
        return -best[1] if best[0] > _GAIN * without else 0

    def waits(self, k: int, times: DraftTimes, found: int) -> bool:
        """Whether to wait for the draft, which has nothing ready;

        `found` tokens from n-grams would do instead.
        """
        plain_s, round_s, found_s = (self._shared.round_s(n) for n in (0, k, found))
        if plain_s is None or round_s is None or found_s is None:
            return True
        instead = max(1 / plain_s, self._found_length / found_s if found else 0.0)
        return self._acceptance.length(k) / (round_s + times.wait_s(k)) > instead

    def observe(
        self, proposal: Proposal, verdict: Verdict, round_s: float, waited_s: float
    ) -> None:
        """One round, from asking for its proposal to its verdict."""
        shared, proposed, accepted = self._shared, len(proposal.ids), verdict.accepted
        shared.observe(proposed + len(proposal.alternatives), round_s - waited_s)
        plain_s = shared.round_s(0)
        if plain_s is None:
            return
        if not proposed and not waited_s:
            shared.ledger.plain(plain_s)
            return
        shared.ledger.assisted(
            (accepted + 1) * plain_s - min(round_s, 3 * plain_s + waited_s), plain_s
        )
        if proposal.made_by == "ngram":
            self._found_length += 2 * _WEIGHT * (accepted + 1 - self._found_length)
        elif proposed:
            stood, beside = accepted - verdict.used_alternative, len(proposal.alternatives)
            for acceptance in (self._acceptance, shared.acceptance):
                acceptance.observe(proposed, stood)
                if beside and stood < proposed:
                    acceptance.went_beside(beside, verdict.used_alternative)

    def _rate(self, k: int, times: DraftTimes, plain_s: float) -> float:
        """Tokens per second; a miss is waited for, or decoded plainly, whichever is faster."""
        round_s, length, hit = self._shared.round_s(k), self._acceptance.length(k), times.hit_rate
        assert round_s is not None
        # What is drafted ahead has the time of a round; beyond that it is waited for too.
        hit_s, plain_s = max(round_s, times.ahead_s(k)), max(plain_s, times.ahead_s(k))
        waiting = length / (hit * hit_s + (1 - hit) * (round_s + times.wait_s(k)))
        going_on = (hit * length + 1 - hit) / (hit * hit_s + (1 - hit) * plain_s)
        return max(waiting, going_on)
