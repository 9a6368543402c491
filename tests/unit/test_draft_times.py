"""How many outcomes are drafted for follows measured times, and is never slower than waiting."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from target_service.drafting.draft_times import DraftTimes, numbers_of_outcomes

K = 5
NUMBERS = numbers_of_outcomes(32, chooses=True)


@dataclass(frozen=True, slots=True)
class World:
    """A target, a draft and a network, as they are."""

    verify_s: float
    network_s: float
    token_s: float
    pass_s: Mapping[int, float]
    """A forward pass over a tree, by the number of outcomes."""
    hit_rates: Mapping[int, float]

    def round(self, times: DraftTimes, outcomes: int, draw: random.Random) -> float:
        """Returns the time of one round and tells what was measured in it."""
        waited_s, drafted_s = self.network_s + K * self.token_s, K * self.token_s
        if outcomes:
            tree_s = (K + 1) * self.pass_s[outcomes]
            times.observe_ahead(outcomes, tree_s * draw.uniform(0.8, 1.2), K)
            times.observe_network(self.network_s)
            hit = draw.random() < self.hit_rates[outcomes]
            times.observe_outcome(outcomes, hit)
            if hit:
                return max(self.verify_s, tree_s + self.network_s)
            is_late = tree_s + self.network_s / 2 > self.verify_s
            drafted_s += self.pass_s[outcomes] / 2 if is_late else 0.0
            waited_s = self.network_s + drafted_s
        times.observe_proposal(outcomes, drafted_s * draw.uniform(0.8, 1.2), K)
        times.observe_network(self.network_s)
        return self.verify_s + waited_s


def lived(
    world: World, rounds: int, times: DraftTimes, fixed: int | None = None
) -> tuple[float, Counter[int]]:
    """Returns the mean time of a round, and how often each number of outcomes was chosen."""
    draw, chosen, spent_s = random.Random(0), Counter[int](), 0.0
    for _ in range(rounds):
        outcomes = times.choose(K, world.verify_s) if fixed is None else fixed
        chosen[outcomes] += 1
        spent_s += world.round(times, outcomes, draw)
    return spent_s / rounds, chosen


FLAT = {8: 0.002, 16: 0.002, 32: 0.002}
STEEP = {8: 0.003, 16: 0.005, 32: 0.009}
FORESEEN, HARDLY = {8: 0.65, 16: 0.78, 32: 0.86}, {8: 0.2, 16: 0.25, 32: 0.3}
WORLDS = {
    "an accelerator": World(0.03, 0.005, 0.002, FLAT, FORESEEN),
    "far away": World(0.06, 0.05, 0.003, STEEP, FORESEEN),
    "no time for trees": World(0.016, 0.0, 0.001, STEEP, HARDLY),
    "no time for wide trees": World(0.016, 0.0, 0.002, {8: 0.0025, 16: 0.005, 32: 0.009}, FORESEEN),
    "trees are late, and waiting is short": World(0.01, 0.0003, 0.001, STEEP, FORESEEN),
    "nothing is foreseen": World(0.03, 0.001, 0.001, FLAT, dict.fromkeys(FLAT, 0.02)),
}


@pytest.mark.parametrize("name", WORLDS)
def test_no_choice_is_much_faster_than_the_measured_one(name: str) -> None:
    """Waiting is one of the choices."""
    world = WORLDS[name]
    chosen_s, _ = lived(world, 3000, DraftTimes(NUMBERS))
    fixed_s = [lived(world, 3000, DraftTimes(NUMBERS), n)[0] for n in NUMBERS]
    assert chosen_s < 1.025 * min(fixed_s)


@pytest.mark.parametrize(
    ("name", "best"),
    [("an accelerator", 32), ("no time for trees", 0), ("no time for wide trees", 8)],
)
def test_what_pays_is_drafted_for(name: str, best: int) -> None:
    _, chosen = lived(WORLDS[name], 3000, DraftTimes(NUMBERS))
    assert chosen[best] > 0.75 * chosen.total()
    assert all(chosen[n] for n in NUMBERS), "everything is tried"


def test_another_network_is_another_choice() -> None:
    times, near = DraftTimes(NUMBERS), WORLDS["no time for trees"]
    far = World(near.verify_s, 0.06, near.token_s, near.pass_s, FORESEEN)
    for world, pushes in ((near, False), (far, True), (near, False)):
        lived(world, 600, times)
        _, chosen = lived(world, 600, times)
        assert (chosen[0] < 0.25 * chosen.total()) == pushes
        assert (chosen[0] > 0.75 * chosen.total()) != pushes


def test_without_a_choice_it_is_the_largest_number() -> None:
    world = WORLDS["no time for trees"]
    assert lived(world, 50, DraftTimes(numbers_of_outcomes(32, chooses=False)))[1] == {32: 50}
    assert lived(world, 50, DraftTimes(numbers_of_outcomes(0, chooses=True)))[1] == {0: 50}
    assert numbers_of_outcomes(12, chooses=True) == (0, 8, 12)
