"""What is wrong is said in the caller's words: names of elsewhere, typos, addresses, deadlines."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import grpc
import pytest

from foredraft import (
    AsyncClient,
    CallOptions,
    Client,
    DeadlineExceededError,
    GenerationConfig,
    InvalidRequestError,
    UnsupportedError,
)
from foredraft.wire import GENERATION_FIELDS, UNSUPPORTED_FIELDS
from foredraft.wire.other_names import HINTS
from tests.premises import begins_again, in_time
from tests.sdk.fake_target import FakeTarget, chunk, fails, started

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
config: Any = GenerationConfig  # to which a type checker lets nobody pass what these tests do


@pytest.mark.parametrize("name", HINTS)
def test_a_name_of_elsewhere_is_refused_with_the_name_here(
    target: Target, connect: Connect, name: str
) -> None:
    fake = target()
    client = connect(fake.address)
    for call in (
        lambda: client.generate("a", **{name: 1}),
        lambda: client.stream("a", **{name: 1}),
        lambda: client.save_generation_config("x", **{name: 1}),
        lambda: config(**{name: 1}),
    ):
        with pytest.raises(InvalidRequestError) as raised:
            call()
        assert str(raised.value) == f"{name!r} {HINTS[name]}"
        assert raised.value.field == name
    assert not fake.requests


def test_the_names_here_exist() -> None:
    options = get_type_hints(CallOptions).keys()
    assert not HINTS.keys() & (GENERATION_FIELDS.keys() | UNSUPPORTED_FIELDS.keys() | options)
    for hint in HINTS.values():
        words = hint.removeprefix("is ").partition(" ")[0].partition("=")[0]
        if hint.endswith(" here"):
            assert words in options or words in GENERATION_FIELDS, hint


@pytest.mark.parametrize(
    ("typo", "name"),
    [("max_new_token", "max_new_tokens"), ("temprature", "temperature"), ("num_beam", "num_beams")],
)
def test_a_typo_is_answered_alike_by_a_call_and_a_config(
    target: Target, connect: Connect, typo: str, name: str
) -> None:
    client, told = connect(target().address), []
    for call in (
        lambda: config(**{typo: 3}),
        lambda: client.generate("a", **{typo: 3}),
    ):
        with pytest.raises(InvalidRequestError, match=f"did you mean '{name}'") as raised:
            call()
        assert raised.value.field == typo
        told.append(str(raised.value))
    assert told[0] == told[1]


@pytest.mark.parametrize(("name", "value"), [("dola_layers", "high"), ("low_memory", False)])
def test_a_config_refuses_what_is_not_served(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="leave it out") as raised:
        config(**{name: value})
    assert raised.value.field == name


@pytest.mark.parametrize(
    "address",
    [
        "localhost:50052",
        "10.0.0.6:50052",
        "[::1]:50052",
        "foredraft-target.default.svc:50052",
        "dns:///foredraft-target:50052",
        "dns://8.8.8.8/foredraft-target:50052",
        "unix:/run/foredraft.sock",
        "ipv4:10.0.0.6:50052,10.0.0.7:50052",
    ],
)
def test_addresses(address: str) -> None:
    with Client(address) as client:
        assert repr(client) == f"Client({address!r})"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://10.0.0.6:50052", "begins with http://"),
        ("https://example.com", "begins with https://"),
        ("localhost", "has no port"),
        ("localhost:", "has no port"),
        ("[::1]", "has no port"),
        ("dns:///foredraft-target", "has no port"),
        ("::1", "IPv6 address without brackets"),
        ("::1:50052", "IPv6 address without brackets"),
        ("localhost:http", "'http' for a port"),
        ("localhost:0", "'0' for a port"),
        ("localhost:65536", "'65536' for a port"),
        ("localhost:50052/v1", "has a path"),
        (":50052", "names no host"),
        ("local host:50052", "names no host"),
        ("", "is no address"),
        (" ", "is no address"),
        (50052, "is no address"),
        ([], "there is none"),
        (["localhost:50052", "localhost"], "has no port"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_address(kind: Any, address: Any, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as raised:
        kind(address)
    assert raised.value.field == "address"


@begins_again
def test_a_deadline_says_what_came(target: Target, connect: Connect) -> None:
    def two_sequences(request: Any, context: Any) -> Any:
        yield started(request)
        yield chunk(0, (1, 2, 3))
        yield chunk(1, (4, 5))
        while context.is_active():
            time.sleep(0.01)

    with pytest.raises(DeadlineExceededError) as raised:
        connect(target(two_sequences).address).generate(["a", "b"], timeout=0.5)
    in_time("5 tokens" in str(raised.value), raised.value)
    assert str(raised.value) == "no end within 0.5 s; 5 tokens in .partial"
    assert sum(len(r.token_ids) for r in raised.value.partial) == 5


def test_a_deadline_before_anything_came(target: Target, connect: Connect) -> None:
    def nothing(request: Any, context: Any) -> Any:
        while context.is_active():
            time.sleep(0.01)
        yield from ()

    with pytest.raises(DeadlineExceededError) as raised:
        connect(target(nothing).address, timeout=0.5).generate("a")
    assert str(raised.value) == "no answer within 0.5 s"


def test_a_service_that_says_why_is_late_is_heard(target: Target, connect: Connect) -> None:
    late = fails(grpc.StatusCode.DEADLINE_EXCEEDED, "its turn came too late", after=1)
    with pytest.raises(DeadlineExceededError) as raised:
        connect(target(late).address).generate("a")
    assert str(raised.value) == "its turn came too late; 1 token in .partial"


def test_something_else_answers(connect: Connect) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with pytest.raises(UnsupportedError, match="no foredraft target service"):
            connect(address).info()
    finally:
        server.stop(None).wait()
