"""The sequences of one call, which run at the same time and share one queue of chunks.

This module knows nothing of requests: it runs plans.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

from foredraft.v1 import target_pb2
from foredraft_serving.overload import UnreadError
from target_service.admission import Ticket
from target_service.output.sequence_output import SequenceOutput
from target_service.output.stopping import Stopping
from target_service.output.stream import ChunkQueue, SequenceStream
from target_service.output.token_forms import TokenForms
from target_service.request.mode import Mode
from target_service.request.plan import Plan
from target_service.running_calls import AbortedError
from target_service.strategies.assisted import assisted
from target_service.strategies.beams import beams
from target_service.strategies.contrastive import contrastive
from target_service.strategies.resources import Resources, Strategy

_UNREAD_BYTES = 4096  # gRPC drops a status whose trailers are larger than 8 KiB

STRATEGIES: Mapping[Mode, Strategy] = {
    Mode.ASSISTED: assisted,
    Mode.BEAMS: beams,
    Mode.DIVERSE_BEAMS: beams,
    Mode.CONTRASTIVE: contrastive,
}


class Generation:
    """The running sequences of one call.

    A plan is begun when one of as many places as there are rows is free: a call of hundreds of
    sequences holds no more than it can use, and begins them one by one between other callers.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        resources: Resources,
        forms: TokenForms,
        ticket: Ticket,
        on_tokens: Callable[[int], None],
        aborted: asyncio.Future[None],
    ) -> None:
        """Starts a task for each place; `close` ends them.

        Args:
            on_tokens: is called with the number of tokens whenever some were generated.
            aborted: is done once the caller has ended the call by its name.
        """
        self._resources, self._forms, self._ticket = resources, forms, ticket
        self._on_tokens, self._aborted = on_tokens, aborted
        pool = resources.engine.pool
        self._queue = ChunkQueue(lambda: pool.waiting > 0)
        self._streams: list[SequenceStream] = []
        self._limited_from, self._began = time.monotonic(), time.perf_counter()
        self._plans = iter(plans)
        places = min(len(plans), pool.count)
        self._tasks = [asyncio.create_task(self._run_plans()) for _ in range(places)]
        self._all: asyncio.Future[Any] = asyncio.gather(*self._tasks)
        # `summaries` raises its error; asyncio would log it as never seen where nobody asks.
        self._all.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def chunks(self) -> AsyncGenerator[target_pb2.Chunk, None]:
        """Yields chunks until all sequences have ended and every chunk was read.

        Stops early if a sequence fails; `summaries` then raises the error.

        Raises:
            AbortedError: the caller has ended the call by its name.
        """
        ends = {self._all, self._aborted}
        while not (self._all.done() and self._queue.empty):
            getting = asyncio.ensure_future(self._queue.get())
            try:
                await asyncio.wait({getting, *ends}, return_when=asyncio.FIRST_COMPLETED)
                if self._aborted.done():
                    raise AbortedError("the caller has aborted the call")
                if getting.done():
                    yield getting.result()
                elif self._all.exception():
                    return
            finally:
                getting.cancel()

    async def summaries(self) -> list[target_pb2.SequenceSummary]:
        """Returns the summaries of all sequences, in their order."""
        summaries = [summary for summaries in await self._all for summary in summaries]
        return sorted(summaries, key=attrgetter("sequence_index"))

    def unread(self, error: UnreadError) -> UnreadError:
        """Returns the error with what was generated and not sent, and how much it was in all."""
        generated = sum(stream.generated for stream in self._streams)
        chunks = self._queue.unread(_UNREAD_BYTES)
        return UnreadError(f"{error}; {generated} tokens were generated", chunks)

    async def close(self) -> None:
        """Cancels the sequences that still run, and waits until all have freed their rows."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait([*self._tasks, self._all])

    async def _run_plans(self) -> list[target_pb2.SequenceSummary]:
        try:
            return [summary for plan in self._plans for summary in await self._run(plan)]
        except Exception:
            for plan in self._plans:  # nobody begins them any more
                for _ in range(plan.sequences):
                    self._ticket.left(had_row=False)
            raise

    async def _run(self, plan: Plan) -> list[target_pb2.SequenceSummary]:
        metrics, drafters = self._resources.metrics, self._resources.drafters
        told = self._ticket.began, self._began, self._on_tokens
        streams = [
            SequenceStream(plan.index + i, self._queue, metrics, *told)
            for i in range(plan.sequences)
        ]
        self._streams += streams
        outputs = [
            SequenceOutput(Stopping(plan, self._forms, self._limited_from), stream)
            for stream in streams
        ]
        try:
            stats = await STRATEGIES[plan.mode](plan, self._resources, outputs)
        finally:
            # However they end, they hold and want no rows any more, even if their call stays.
            for stream in streams:
                self._ticket.left(stream.had_row)
        for output in outputs:
            allowed, stream = plan.max_length - len(plan.tokens), output.stream
            self._ticket.ended(stream.generated, allowed, stream.spent_s)
        message = stats.message(plan.sampling.rule, drafters.unused_reason)
        return [output.summary(plan, message) for output in outputs]


@asynccontextmanager
async def generation(
    plans: Sequence[Plan],
    resources: Resources,
    forms: TokenForms,
    ticket: Ticket,
    on_tokens: Callable[[int], None],
    aborted: asyncio.Future[None],
) -> AsyncIterator[Generation]:
    """Runs the plans of a call and ends them, however the call ends."""
    running = Generation(plans, resources, forms, ticket, on_tokens, aborted)
    try:
        yield running
    finally:
        await running.close()
