"""The draft length is the fastest by measured times, never much slower than plain decoding."""

import random

import pytest

from foredraft_engine.proposal import NOTHING, Proposal, Verdict
from foredraft_engine.scheduling.step_times import StepTimes
from target_service.drafting.acceptance_estimate import AcceptanceEstimate
from target_service.drafting.draft_times import DraftTimes
from target_service.drafting.goodput import Goodput
from target_service.drafting.ngram_lookup import Lookup
from target_service.drafting.shared_estimates import SharedEstimates

AHEAD = 32  # outcomes


def measured(network_s: float, token_s: float, hit_rate: float) -> DraftTimes:
    """Returns the times of a draft that always drafts ahead."""
    times = DraftTimes((AHEAD,))
    for i in range(400):
        times.observe_network(network_s)
        times.observe_proposal(AHEAD, token_s, 1)
        times.observe_outcome(AHEAD, int((i + 1) * hit_rate) > int(i * hit_rate))
    return times


def steps(flat_s: float, token_s: float) -> StepTimes:
    pace = StepTimes()
    for tokens in (1, 2, 4, 6, 8, 12, 16, 24, 64):
        for _ in range(60):
            pace.observe(tokens, 1, flat_s + token_s * tokens)
    return pace


def settled(
    pace: StepTimes, times: DraftTimes, acceptance: float, bound: int = 20
) -> tuple[Goodput, float]:
    """Returns a goodput after 300 rounds with a draft of this acceptance, and their time as a share
    of plain decoding's.
    """
    goodput, draw, taken_s, tokens = Goodput(SharedEstimates(pace), bound), random.Random(0), 0.0, 0
    plain_s = (pace.at(1) or 0.0) + 0.0004
    for _ in range(300):
        k = goodput.k(bound, times)
        missed = draw.random() > times.hit_rate(AHEAD)
        k = 0 if missed and k and not goodput.waits(k, AHEAD, times, Lookup()) else k
        waited_s = times.wait_s(k, AHEAD) if missed and k else 0.0
        accepted = 0
        while accepted < k and draw.random() < acceptance:
            accepted += 1
        round_s = (pace.at(k + 1) or 0.0) + waited_s + (0.0008 if k else 0.0004)
        goodput.observe(Proposal((0,) * k), Verdict((0,) * (accepted + 1)), round_s, waited_s)
        taken_s += round_s
        tokens += accepted + 1
    return goodput, taken_s / (tokens * plain_s)


def test_a_good_draft_is_asked_for_more() -> None:
    pace, times = steps(0.03, 0.0002), measured(0.001, 0.001, 0.8)
    lengths = [settled(pace, times, a)[0].k(20, times) for a in (0.3, 0.6, 0.9)]
    assert 0 < lengths[0] < lengths[1] < lengths[2] <= 20


def test_a_costly_width_is_not_used() -> None:
    times = measured(0.0, 0.0005, 0.8)
    cheap, _ = settled(steps(0.03, 0.0), times, 0.7)
    costly, _ = settled(steps(0.01, 0.01), times, 0.7)
    assert costly.k(20, times) < cheap.k(20, times)


def test_the_bound_is_kept() -> None:
    times = measured(0.0, 0.0001, 1.0)
    goodput, _ = settled(steps(0.03, 0.0), times, 0.95, bound=4)
    assert goodput.k(20, times) == 4
    assert goodput.k(2, times) == 2
    assert goodput.k(0, times) == 0


@pytest.mark.parametrize(
    ("acceptance", "times"),
    [
        (0.0, measured(0.0, 0.001, 0.5)),
        (0.0, measured(0.05, 0.01, 0.0)),
        (0.2, measured(0.1, 0.02, 0.1)),
    ],
    ids=["wrong", "wrong and far", "poor, far and slow"],
)
def test_no_draft_makes_it_much_slower(acceptance: float, times: DraftTimes) -> None:
    """A long text is not much slower, since a wrong prior of a new draft costs a little once."""
    goodput, share = settled(steps(0.03, 0.001), times, acceptance)
    assert share < 1.03
    for _ in range(600):
        goodput.observe(NOTHING, Verdict((0,)), 0.0304, 0.0)
    assert goodput._shared.budget.balance_s > 0, "it is tried again some day"


def test_waiting_or_going_on() -> None:
    goodput, _ = settled(steps(0.03, 0.0001), measured(0.0, 0.001, 0.8), 0.8)
    assert goodput.waits(5, AHEAD, measured(0.0, 0.001, 0.8), Lookup())
    assert not goodput.waits(5, AHEAD, measured(0.3, 0.001, 0.8), Lookup())


@pytest.mark.parametrize(
    ("token_s", "stood", "some"), [(0.0, True, True), (0.0, False, False), (0.03, True, False)]
)
def test_alternatives_where_they_pay(token_s: float, stood: bool, some: bool) -> None:
    """Alternatives cost width and save rounds, and both are measured."""
    times, pace = measured(0.0, 0.001, 0.9), steps(0.03, token_s)
    goodput = Goodput(SharedEstimates(pace), 5, max_alternatives=16)
    for _ in range(200):
        k = goodput.k(5, times)
        beside = goodput.alternatives(k, times)
        proposal = Proposal((0,) * k, None, "model", ((0, 1),) * beside)
        verdict = Verdict((1, 0), used_alternative=True) if stood and beside else Verdict((1,))
        goodput.observe(proposal, verdict, pace.at(1 + k + beside) or 0.0, 0.0)
    assert 0 <= goodput.alternatives(5, times) <= 16
    assert (goodput.alternatives(5, times) > 0) == some
    assert goodput.alternatives(0, times) == 0
    assert Goodput(SharedEstimates(pace), 5).alternatives(5, times) == 0


def test_a_new_sequence_believes_what_others_saw() -> None:
    seen = AcceptanceEstimate()
    for _ in range(200):
        seen.observe(5, 1)
    new = AcceptanceEstimate(seen)
    assert new.rates(2)[0] > 0.9
    assert new.rates(2)[1] < 0.1
    assert new.mean_length(5) == pytest.approx(2, abs=0.2)


def test_step_times_between_and_beyond() -> None:
    pace = StepTimes()
    assert pace.at(1) is None
    pace.observe(2, 1, 0.010)
    pace.observe(6, 2, 0.014)
    assert pace.at(1) == pace.at(2) == 0.010
    assert pace.at(4) == pytest.approx(0.012)
    assert pace.at(100) == 0.014
    pace.observe(6, 2, 10.0)
    assert (pace.at(6) or 1.0) < 0.02, "an outlier counts little"


@pytest.mark.parametrize("acceptance", [0.1, 0.5])
def test_a_draft_on_the_targets_own_cores(acceptance: float) -> None:
    """It slows plain rounds down as well, which must not make assistance seem to pay."""
    pace, times, draw = steps(0.03, 0.0002), measured(0.0, 0.02, 0.1), random.Random(1)
    goodput, taken_s, tokens, beside = Goodput(SharedEstimates(pace), 5), 0.0, 0, False
    quiet_s = pace.at(1) or 0.0
    for _ in range(1500):
        k = goodput.k(5, times)
        beside = beside or k > 0
        proposed = k if draw.random() < 0.1 else 0
        step_s = (2.0 if beside else 1.0) * (quiet_s + 0.0002 * proposed)
        pace.observe(1 + proposed, 1, step_s if proposed or not beside else None)
        accepted = 0
        while accepted < proposed and draw.random() < acceptance:
            accepted += 1
        goodput.observe(
            Proposal((0,) * proposed),
            Verdict((0,) * (accepted + 1)),
            step_s,
            0.0,
            looked_up=not proposed,
            beside_draft=beside,
        )
        taken_s, tokens, beside = taken_s + step_s, tokens + accepted + 1, k > 0
    assert taken_s < 1.03 * tokens * quiet_s
