"""How fast rows are served, by the sequences that ended."""

import pytest

from target_service.service_rate import ServiceRate


def _seen(count: int, token_s: float) -> ServiceRate:
    rate = ServiceRate()
    for _ in range(count):
        rate.observe(64, 64, 64 * token_s)
    return rate


def test_nothing_is_said_of_the_first_sequences() -> None:
    assert _seen(3, 0.1).seconds(10) == 0
    assert _seen(4, 0.1).seconds(10) == pytest.approx(1.0)


def test_a_sequence_in_which_the_machine_slept_is_hardly_counted() -> None:
    rate = _seen(20, 0.01)
    rate.observe(64, 64, 300.0)
    assert rate.seconds(64) < 1.0  # it was 0.64


def test_a_machine_that_became_slower_is_believed() -> None:
    rate = _seen(20, 0.01)
    for _ in range(30):
        rate.observe(64, 64, 64 * 0.1)
    assert rate.seconds(64) == pytest.approx(6.4, rel=0.1)
