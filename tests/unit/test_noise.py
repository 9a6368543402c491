"""Random numbers depend on their key alone, are uniform, and are independent."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from foredraft_engine.noise import Purpose, gumbel, key, uniform

SEEDS = st.integers(min_value=0, max_value=2**64 - 1)


def test_the_hash_is_splitmix64() -> None:
    """The first outputs for seed 1234567 are those published with the algorithm.

    `uniform` shows their upper 52 bits.
    """
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    numbers = uniform(torch.tensor([1234567]), 4)[0].tolist()
    assert numbers == [((value >> 12) + 0.5) * 2.0**-52 for value in published]


@given(SEEDS, st.integers(0, 1000), st.integers(0, 1000))
def test_keys_fit_int64_and_depend_on_every_part(seed: int, a: int, b: int) -> None:
    torch.tensor([key(seed, a, b)], dtype=torch.int64)
    assert key(seed, a, b) == key(seed, a, b)
    assert key(seed, a, b) != key(seed, a, b + 1)
    assert key(seed, a, b) != key(seed, a + 1, b)
    assert a == b or key(seed, a, b) != key(seed, b, a)


def test_numbers_are_uniform_and_independent() -> None:
    """Kolmogorov-Smirnov: random seeds would fail once in a million, and these do not."""
    keys = torch.tensor([key(seed, Purpose.ACCEPT, seed % 3, seed % 7) for seed in range(2000)])
    numbers = uniform(keys, 50)
    assert kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-6
    neighbours = torch.corrcoef(torch.stack([numbers[:, :-1].flatten(), numbers[:, 1:].flatten()]))[
        0, 1
    ]
    lines = torch.corrcoef(torch.stack([numbers[:-1].flatten(), numbers[1:].flatten()]))[0, 1]
    assert abs(neighbours) < 0.02
    assert abs(lines) < 0.02


def test_gumbel_noise_samples() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    keys = torch.tensor([key(seed, Purpose.DRAFT) for seed in range(50_000)])
    drawn = (p.double().log() + gumbel(keys, 3)).argmax(-1)
    assert torch.allclose(drawn.bincount(minlength=3) / 50_000, p, atol=0.01)


def test_no_number_is_zero_or_one() -> None:
    numbers = uniform(torch.arange(1000), 1000)
    assert numbers.min() > 0
    assert numbers.max() < 1
