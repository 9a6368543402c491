"""A client waits for a service to be ready, and says what is missing if it is not."""

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from foredraft import AsyncClient, DeadlineExceededError, ForedraftError, UnsupportedError
from foredraft.v1 import target_pb2, target_pb2_grpc
from foredraft_serving.server import Server
from foredraft_serving.status import ENGINE_ERRORS
from tests.loopback import ANY_PORT
from tests.sdk.fake_target import FakeTarget

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


class _Loaded(target_pb2_grpc.TargetServiceServicer):
    async def GetModelInfo(self, request: Any, context: Any) -> target_pb2.GetModelInfoResponse:
        return target_pb2.GetModelInfoResponse(model="loaded")


def _server(kind: str) -> Server:
    return Server(ENGINE_ERRORS, [f"foredraft.v1.{kind}Service"])


@pytest.fixture
async def loading() -> AsyncIterator[tuple[Server, str]]:
    """A target service that answers and is not ready."""
    async with _server("Target") as server:
        yield server, await server.start(ANY_PORT)


def test_a_service_that_is_ready(target: Target, connect: Connect) -> None:
    assert connect(target().address).wait_until_ready(5).model == "fake"
    assert connect(target().address, timeout=5).wait_until_ready().model == "fake"


def test_a_service_that_starts_later(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    fake.stop()
    refused = threading.Event()

    def start() -> None:
        refused.wait(10)
        fake.start()

    starting = threading.Thread(target=start)
    starting.start()
    with pytest.raises(DeadlineExceededError):
        client.wait_until_ready(0.5)
    refused.set()
    assert client.wait_until_ready(timeout=10).model == "fake"
    starting.join()


def test_one_of_several_addresses_is_enough(target: Target, connect: Connect, silent: str) -> None:
    dead = target()
    dead.stop()
    client = connect([dead.address, silent, target().address])
    for _ in range(3):  # whichever comes first
        assert client.wait_until_ready(10).model == "fake"


def test_nobody_there(connect: Connect, silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=rf"no service at {silent} .* within 0\.4 s"):
        connect(silent).wait_until_ready(0.4)
    assert time.monotonic() - began < 60


async def test_a_service_that_loads_says_so(loading: tuple[Server, str]) -> None:
    server, address = loading
    async with AsyncClient(address) as client:
        with pytest.raises(DeadlineExceededError, match="it loads its model"):
            await client.wait_until_ready(0.4)
        loaded = _Loaded()  # type: ignore[abstract]
        await server.ready(target_pb2_grpc.add_TargetServiceServicer_to_server, loaded)
        assert (await client.wait_until_ready(5)).model == "loaded"


async def test_what_will_never_be_ready_is_an_error_at_once() -> None:
    reason = "this is a draft service: give the address of a target service"
    async with _server("Draft") as server, AsyncClient(await server.start(ANY_PORT)) as client:
        calls: list[Callable[[], Any]] = [
            lambda: client.wait_until_ready(30),
            lambda: client.generate("a"),
            client.info,
        ]
        for call in calls:
            with pytest.raises(UnsupportedError, match=reason):
                await call()


def test_a_closed_client_does_not_wait(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    client.close()
    with pytest.raises(ForedraftError, match="closed"):
        client.wait_until_ready(5)


def test_the_address_is_shown(target: Target, connect: Connect) -> None:
    assert repr(connect("10.0.0.6:50052")) == "Client('10.0.0.6:50052')"
    assert repr(connect(["a:1", "b:2"])) == "Client('a:1', 'b:2')"
    assert repr(AsyncClient("a:1")) == "AsyncClient('a:1')"
