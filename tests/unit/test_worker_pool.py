"""Threads for long work: bounded, fair to other threads, and left when their caller has gone."""

import asyncio
import threading
import time

import pytest

from foredraft_serving.overload import OverloadError
from foredraft_serving.worker_pool import WorkerPool, WorkLeftError, breathe
from tests.premises import begins_again, in_time


@begins_again
async def test_a_wait_in_the_queue_is_no_work_to_rest_from() -> None:
    pool = WorkerPool("test", 1, 64)
    began = time.monotonic()
    await asyncio.gather(*(pool.run(time.sleep, 0.01) for _ in range(20)))
    pool.close()
    in_time(time.monotonic() - began < 2.0, "every call slept as long as it had waited")


async def test_more_than_the_queue_holds_are_refused() -> None:
    refused: list[str] = []
    pool, may_end = WorkerPool("test", 1, 2, refused.append), threading.Event()
    running = [asyncio.create_task(pool.run(may_end.wait, 10)) for _ in range(3)]
    await asyncio.sleep(0.05)
    with pytest.raises(OverloadError):
        await pool.run(may_end.wait, 10)
    assert refused == ["test"]
    may_end.set()
    await asyncio.gather(*running)
    assert await pool.run(str, 1) == "1", "a place is free again"
    pool.close()


async def test_work_ends_when_its_caller_has_gone() -> None:
    pool, begun, ended = WorkerPool("test", 1, 2), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        try:
            while True:
                breathe()
                time.sleep(0.001)
        except WorkLeftError:
            ended.set()
            raise

    running = asyncio.create_task(pool.run(work))
    assert await asyncio.to_thread(begun.wait, 30)
    running.cancel()
    await asyncio.wait([running])
    assert await asyncio.to_thread(ended.wait, 30)
    pool.close()
