"""The rule of a call that leaves it open is the one under which tokens took the least time."""

from collections import Counter
from random import Random

import pytest

from foredraft_engine.sampling import Rule
from target_service.drafting.rule_choice import RuleChoice

PLAIN_S = 0.03


def called(
    choice: RuleChoice, calls: int, round_s: dict[Rule, float], draw: Random
) -> Counter[Rule]:
    """Makes calls of 40 rounds; returns how many each rule had."""
    rules = Counter[Rule]()
    for _ in range(calls):
        rule = choice.choose()
        rules[rule] += 1
        for _ in range(40):
            choice.observe(rule, draw.randint(1, 6), PLAIN_S, round_s[rule])
    return rules


@pytest.mark.parametrize("faster", [Rule.REJECTION, Rule.COUPLED])
def test_the_faster_rule_is_taken_and_the_other_stays_measured(faster: Rule) -> None:
    choice, draw = RuleChoice(), Random(0)
    slower = Rule.COUPLED if faster is Rule.REJECTION else Rule.REJECTION
    times = {faster: 0.03, slower: 0.04}
    called(choice, 20, times, draw)
    rules = called(choice, 160, times, draw)
    assert rules[slower] == 10
    # What was measured long ago is forgotten: the other rule becomes the faster one.
    times = {faster: 0.04, slower: 0.03}
    called(choice, 400, times, draw)
    assert called(choice, 160, times, draw)[faster] == 10


def test_the_first_call_is_under_rejection() -> None:
    assert RuleChoice().choose() is Rule.REJECTION


def test_a_choice_is_made_of_times_and_counts_before_the_call() -> None:
    """Two services that measured the same choose the same, whatever the calls said."""
    one, other = RuleChoice(), RuleChoice()
    for _ in range(100):
        rule = one.choose()
        assert other.choose() is rule
        for choice in (one, other):
            choice.observe(rule, 40, PLAIN_S, 0.3)
