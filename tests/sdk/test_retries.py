"""A call that did not begin is tried again at the next address; a call that began is not."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from foredraft import DeadlineExceededError, OverloadedError, UnavailableError
from tests.premises import begins_again, in_time
from tests.sdk.fake_target import FakeTarget, answer, fails, started

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
DOWN = fails(grpc.StatusCode.UNAVAILABLE, "down")


def test_unavailable_is_tried_again(target: Target, connect: Connect) -> None:
    fake = target(DOWN, DOWN, answer)
    assert connect(fake.address).generate("a").token_ids == (1, 2, 3, 4, 5)
    assert len({r.request_id for r in fake.requests}) == 1
    assert len(fake.requests) == 3


@pytest.mark.parametrize("retries", [0, 2])
def test_but_not_for_ever(target: Target, connect: Connect, retries: int) -> None:
    fake = target(DOWN)
    with pytest.raises(UnavailableError, match="down"):
        connect(fake.address, max_retries=retries).generate("a")
    assert len(fake.requests) == retries + 1


def test_nothing_else_is_tried_again(target: Target, connect: Connect) -> None:
    fake = target(fails(grpc.StatusCode.RESOURCE_EXHAUSTED), answer)
    with pytest.raises(OverloadedError):
        connect(fake.address).generate("a")
    assert len(fake.requests) == 1


def test_nothing_is_tried_again_after_the_first_message(target: Target, connect: Connect) -> None:
    def only_started(request: Any, context: Any) -> Any:
        yield started(request)
        context.abort(grpc.StatusCode.UNAVAILABLE, "lost")

    fake = target(only_started, answer)
    with pytest.raises(UnavailableError, match="lost"):
        connect(fake.address).generate("a")
    assert len(fake.requests) == 1


def test_the_next_address_takes_over(target: Target, connect: Connect) -> None:
    dead, alive = target(), target()
    dead.stop()
    client = connect([dead.address, alive.address])
    for _ in range(4):
        assert client.generate("a").token_ids == (1, 2, 3, 4, 5)
        assert client.info().model == "fake"
        assert client.tokenize("ab") == [0, 1]
    assert len(alive.requests) == 4


def test_calls_go_round(target: Target, connect: Connect) -> None:
    fakes = [target(), target()]
    client = connect([fake.address for fake in fakes])
    for _ in range(4):
        client.generate("a")
    assert [len(fake.requests) for fake in fakes] == [2, 2]


def test_a_service_that_comes_back_is_found(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    client.generate("a")
    fake.stop()
    with pytest.raises(UnavailableError):
        client.info()
    fake.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert client.info().model == "fake"
            return
        except UnavailableError:
            assert time.monotonic() < deadline


def test_all_tries_share_one_deadline(target: Target, connect: Connect) -> None:
    fake = target(DOWN)
    began = time.monotonic()
    with pytest.raises((UnavailableError, DeadlineExceededError)):
        connect(fake.address, max_retries=1000).generate("a", timeout=0.5)
    assert time.monotonic() - began < 60


FULL = fails(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "full", metadata=(("grpc-retry-pushback-ms", "300"),)
)


def test_an_overloaded_service_is_asked_again_when_it_said(
    target: Target, connect: Connect
) -> None:
    fake = target(FULL, answer)
    began = time.monotonic()
    assert connect(fake.address).generate("a").token_ids == (1, 2, 3, 4, 5)
    assert time.monotonic() - began >= 0.3
    assert len(fake.requests) == 2, "gRPC has no policy of its own that tries again"


@begins_again
def test_an_overloaded_service_hands_over_to_the_next_address_at_once(
    target: Target, connect: Connect
) -> None:
    full, free = target(FULL), target()
    client = connect([full.address, free.address])
    for _ in range(2):
        began = time.monotonic()
        assert client.generate("a").token_ids == (1, 2, 3, 4, 5)
        in_time(time.monotonic() - began < 0.29, "it waits")


@pytest.mark.parametrize("pushback", ["-1", "soon", "60000"])
def test_never_and_too_late_are_final(target: Target, connect: Connect, pushback: str) -> None:
    fake = target(
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, metadata=(("grpc-retry-pushback-ms", pushback),))
    )
    with pytest.raises(OverloadedError):
        connect(fake.address).generate("a", timeout=5)
    assert len(fake.requests) == 1
