"""One name with several addresses behind it, as of a headless Service."""

from collections.abc import Callable
from typing import Any

from tests.sdk.fake_target import FakeTarget

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]


def test_calls_take_turns(target: Target, connect: Connect) -> None:
    fakes = [target(), target()]
    client = connect("ipv4:" + ",".join(fake.address for fake in fakes))
    client.generate("a")
    for _ in range(9):
        client.generate("a")
    assert min(len(fake.requests) for fake in fakes) >= 4


def test_one_that_stops_is_left_out(target: Target, connect: Connect) -> None:
    fakes = [target(), target()]
    client = connect("ipv4:" + ",".join(fake.address for fake in fakes), max_retries=3)
    client.generate("a")
    fakes[0].stop()
    for _ in range(4):
        assert client.generate("a").token_ids == (1, 2, 3, 4, 5)
