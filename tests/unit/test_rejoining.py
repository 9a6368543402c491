"""A step waits for the sequences of the last one that soon come back, and for nobody else."""

import asyncio
import time
from collections import Counter

from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import NOTHING
from foredraft_engine.sampling import Sampling
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.rejoining import Rejoining
from tests.fakes import SlowRows, random_table
from tests.premises import begins_again, in_time

VOCAB, STREAMS, STEP_S, TOKENS = 9, 8, 0.02, 30


async def _stream(engine: Engine, index: int, pause_s: float = 0.0) -> None:
    """Generates tokens, with a turn of the event loop or a pause between them."""
    await asyncio.sleep(0.013 * index)  # streams do not arrive together
    tokens = [1, index]
    processors = Processors(Sampling(prompt_length=2), engine.device)
    async with engine.pool.lend(tokens, "") as row:
        for _ in range(TOKENS):
            tokens += (await engine.verify(row, tokens, NOTHING, processors)).ids
            await asyncio.sleep(pause_s)


@begins_again
async def test_streams_that_arrive_apart_share_their_steps() -> None:
    rows = SlowRows(random_table(VOCAB, 0), STEP_S, count=STREAMS)
    engine = Engine(rows, VOCAB)
    try:
        await asyncio.gather(*(_stream(engine, i) for i in range(STREAMS)))
        # In two groups that take turns no step would have all of them.
        in_time(Counter(rows.steps)[STREAMS] > TOKENS / 2, rows.steps)
    finally:
        engine.close()


@begins_again
async def test_a_stream_that_is_slow_delays_nobody() -> None:
    rows = SlowRows(random_table(VOCAB, 0), STEP_S, count=STREAMS)
    engine = Engine(rows, VOCAB)
    try:
        slow = asyncio.create_task(_stream(engine, 1, pause_s=0.3))
        began = time.perf_counter()
        await _stream(engine, 0)
        # A slow stream takes part in a few of the steps, and lengthens none.
        took_s = time.perf_counter() - began
        in_time(took_s < 1.5 * TOKENS * STEP_S, took_s)
        slow.cancel()
        await asyncio.wait([slow])
    finally:
        engine.close()


def test_a_row_is_waited_for_once_it_came_in_time() -> None:
    lent = {1, 2}
    rejoining = Rejoining(lent.__contains__)
    rejoining.left([1, 2], step_s=0.04, now=10.0)
    assert rejoining.wait_s(10.0) == 0.0, "nothing is known of these rows yet"
    rejoining.came([1], 10.005)
    rejoining.came([2], 10.5)
    rejoining.left([1, 2], step_s=0.04, now=11.0)
    assert 0.0 < rejoining.wait_s(11.0) <= 0.01
    assert rejoining.wait_s(11.02) == 0.0, "the wait has an end"
    rejoining.came([1], 11.002)
    assert rejoining.wait_s(11.002) == 0.0, "row 2 was late"
    rejoining.left([1], step_s=0.04, now=12.0)
    lent.discard(1)
    assert rejoining.wait_s(12.0) == 0.0, "the sequence of row 1 has ended"
