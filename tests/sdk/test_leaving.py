"""A stream that is left frees the service's row at once: the service sees it within a second."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from foredraft import AsyncClient, Client, ForedraftError, RequestCancelledError
from tests.premises import begins_again, in_time
from tests.sdk.fake_target import FakeTarget, answer, endless, silent

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]


def test_break(target: Target, connect: Connect) -> None:
    fake = target(endless)
    with connect(fake.address).stream("a") as stream:
        for _ in stream:
            break
    assert fake.left.wait(30)
    assert list(stream) == []
    with pytest.raises(ForedraftError, match="left before its end") as raised:
        _ = stream.result
    assert raised.value.partial[0].token_ids[:1] == (1,)


def test_an_exception(target: Target, connect: Connect) -> None:
    fake = target(endless)
    with pytest.raises(ZeroDivisionError), connect(fake.address).stream("a") as stream:
        _ = 1 / (len(next(stream).token_ids) - 1)
    assert fake.left.wait(30)


def test_close(target: Target, connect: Connect) -> None:
    fake = target(endless)
    stream = connect(fake.address).stream("a")
    next(stream)
    stream.close()
    stream.close()
    assert fake.left.wait(30)


def test_a_stream_that_is_never_read_never_begins(target: Target, connect: Connect) -> None:
    fake = target(endless)
    with connect(fake.address).stream("a"):
        pass
    assert not fake.requests


def test_close_after_the_end_keeps_the_result(target: Target, connect: Connect) -> None:
    with connect(target(answer).address).stream("a") as stream:
        list(stream)
    stream.close()
    assert stream.result.token_ids == (1, 2, 3, 4, 5)


def test_break_without_with(target: Target) -> None:
    fake = target(endless)
    with Client(fake.address) as client:
        for _ in client.stream("a"):
            break
        assert fake.left.wait(30)


async def test_break_without_with_asynchronous(target: Target) -> None:
    fake = target(endless)
    async with AsyncClient(fake.address) as client:
        async for _ in client.stream("a"):
            break
        gc.collect()
        assert await asyncio.to_thread(fake.left.wait, 30)


def test_close_from_another_thread(target: Target, connect: Connect) -> None:
    fake = target(silent)
    with connect(fake.address).stream("a") as stream:
        next(stream)
        threading.Timer(0.1, stream.close).start()
        with pytest.raises(RequestCancelledError) as raised:
            next(stream)
    assert raised.value.partial[0].token_ids == (1, 2)
    assert fake.left.wait(30)


def test_closing_the_client_ends_its_calls(target: Target, connect: Connect) -> None:
    fake = target(silent)
    client = connect(fake.address)
    stream = client.stream("a")
    next(stream)
    threading.Timer(0.1, client.close).start()
    with pytest.raises(RequestCancelledError):
        next(stream)
    assert fake.left.wait(30)


@pytest.mark.parametrize("how", ["generate", "stream"])
async def test_a_cancelled_task(target: Target, how: str) -> None:
    fake = target(silent)
    async with AsyncClient(fake.address) as client:

        async def read() -> None:
            async for _ in client.stream("a"):
                pass

        task = asyncio.create_task(client.generate("a") if how == "generate" else read())
        assert await asyncio.to_thread(fake.reached.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert await asyncio.to_thread(fake.left.wait, 30)


@begins_again
async def test_a_timeout_of_asyncio(target: Target) -> None:
    fake = target(silent)
    async with AsyncClient(fake.address) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.generate("a")
        in_time(fake.reached.is_set(), "it ended before it arrived")
        assert await asyncio.to_thread(fake.left.wait, 30)


def test_a_client_made_outside_of_the_loop(target: Target) -> None:
    client = AsyncClient(target().address)

    async def use() -> Any:
        async with client:
            return await client.generate("a")

    assert asyncio.run(use()).token_ids == (1, 2, 3, 4, 5)
