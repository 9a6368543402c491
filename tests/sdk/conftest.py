"""A scripted target, and both clients with one interface, so that every test holds for both."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from foredraft import AsyncClient, Client
from tests.sdk.fake_target import FakeTarget, Script


@pytest.fixture
def target() -> Iterator[Callable[..., FakeTarget]]:
    """Starts fakes that answer by scripts."""
    running: list[FakeTarget] = []

    def start(*scripts: Script) -> FakeTarget:
        running.append(FakeTarget(*scripts).start())
        return running[-1]

    yield start
    for fake in running:
        fake.stop()


class Blocking:
    """The asynchronous client for blocking tests: every call runs on the loop of a thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = AsyncClient(*args, **kwargs)

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return self.wait(self._client.generate(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> "BlockingStream":
        async def opened() -> Any:  # in the loop, where the channels belong
            return self._client.stream(*args, **kwargs)

        return BlockingStream(self, self.wait(opened()))

    def __getattr__(self, name: str) -> Any:
        """Returns a method of the asynchronous client, which blocks here."""
        return lambda *args, **kwargs: self.wait(getattr(self._client, name)(*args, **kwargs))

    def __repr__(self) -> str:
        return repr(self._client).removeprefix("Async")

    def close(self) -> None:
        self.wait(self._client.close())

    def end(self) -> None:
        """Closes the client and ends the thread."""
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingStream:
    """An asynchronous stream, read from a blocking test."""

    def __init__(self, client: Blocking, stream: Any) -> None:
        self._client, self._stream = client, stream

    @property
    def result(self) -> Any:
        return self._stream.result

    def __iter__(self) -> "BlockingStream":
        return self

    def __next__(self) -> Any:
        try:
            return self._client.wait(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> "BlockingStream":
        self._client.wait(self._stream.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._client.wait(self._stream.__aexit__(None, None, None))

    def close(self) -> None:
        self._client.wait(self._stream.close())


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients; each test runs with either kind."""
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("registry", CollectorRegistry())
        made.append((Client if request.param == "blocking" else Blocking)(*args, **kwargs))
        return made[-1]

    yield make
    for client in made:
        client.end() if isinstance(client, Blocking) else client.close()
