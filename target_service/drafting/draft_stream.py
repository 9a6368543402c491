"""One stream to a draft service, which follows one sequence until the stream ends or is lost.

This module knows nothing of what is done without proposals.
"""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio

from foredraft.v1 import draft_pb2
from foredraft_serving.logs import request_id
from foredraft_serving.messages import rule_from
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_pool import DraftEndpoint
from target_service.drafting.draft_status import StreamEnd, stream_end
from target_service.drafting.draft_times import DraftTimes
from target_service.drafting.inbox import Inbox


class DraftStream:
    """A stream and the blocks that came on it.

    An `Opened` message with another vocabulary, an error of the call and a bad block all end the
    stream. Nothing is raised for them: `is_open` is then False and the inbox is empty.
    """

    def __init__(
        self, endpoint: DraftEndpoint, opening: draft_pb2.Open, metrics: TargetMetrics
    ) -> None:
        self.endpoint, self._rule = endpoint, rule_from(opening.rule)
        self.inbox = Inbox()
        self.is_open = True
        self.end: StreamEnd | None = None
        """How the stream ended, if the draft service or the connection ended it."""
        self.committed = len(opening.prompt_ids) + len(opening.generated_ids)
        """The number of tokens that the draft service knows to be committed."""
        # A draft service that failed others lately has to answer before anyone waits for it.
        self.is_waited_for = endpoint.is_trusted
        """Whether rounds wait for its blocks: False from a block that was late to the next one."""
        self._epoch, self._metrics = opening.epoch, metrics
        self._outgoing = _Outgoing()
        self._outgoing.send(draft_pb2.DraftRequest(open=opening))
        self._changed = asyncio.Event()  # a message came, or the stream ended
        self.inbox.request(self.committed, opening.k, opening.outcomes)
        endpoint.sessions += 1
        self._call: Any = endpoint.open(self._outgoing, request_id())
        self._reading = asyncio.create_task(self._read())

    @property
    def times(self) -> DraftTimes:
        """What proposals cost that are made by the rule of this sequence."""
        return self.endpoint.times(self._rule)

    def commit(self, message: draft_pb2.Commit) -> None:
        """Sends a commit, which requests blocks on all tokens committed with it."""
        self._metrics.discarded_blocks.labels("unused").inc(self.inbox.forget(message.base_len))
        self.committed = message.base_len + len(message.accepted_ids) + 1
        waits = message.WhichOneof("verifying") is None
        self.inbox.request(self.committed, message.k, message.outcomes, waits)
        self._metrics.draft_bytes.labels("sent").inc(message.ByteSize())
        self._outgoing.send(draft_pb2.DraftRequest(commit=message))

    async def wait(self, timeout_s: float) -> None:
        """Waits for a message or for the end of the stream, at most `timeout_s` seconds."""
        self._changed.clear()
        try:
            # In Python 3.11 `wait_for` swallows a cancellation that coincides with the result.
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    def is_overdue(self, timeout_s: float) -> bool:
        """Returns whether blocks on the newest commit were requested more than `timeout_s` ago."""
        return time.perf_counter() - self.inbox.requested_at(self.committed, 0.0) > timeout_s

    def lose(self, end: StreamEnd, reason: str) -> None:
        """Gives the stream up.

        Args:
            end: what its end says about the draft service.
            reason: what the draft service did wrong; empty if that was recorded already.
        """
        self._leave()
        self.end = end
        if reason:
            self.endpoint.ended(end, reason)
        self._changed.set()

    async def close(self) -> None:
        """Ends the stream, which frees the row on the draft service."""
        if self.is_open:
            self._leave()
        self._reading.cancel()
        await asyncio.wait([self._reading])

    def _leave(self) -> None:
        self.is_open, self.inbox = False, Inbox()
        self.endpoint.sessions -= 1
        self._outgoing.end()
        self._call.cancel()

    async def _read(self) -> None:
        """Receives messages until the stream ends."""
        end, reason = StreamEnd.FAULTY, "ended the stream"
        try:
            async for response in self._call:
                if response.WhichOneof("message") == "opened":
                    if not await self.endpoint.fits(response.opened):
                        end, reason = StreamEnd.WRONG, ""
                        break
                else:
                    self._receive(response.block)
                self._changed.set()
        except grpc.aio.AioRpcError as error:
            end, reason = stream_end(error.code(), error.details() or "")
        if self.is_open:
            self.lose(end, reason)

    def _receive(self, block: draft_pb2.Block) -> None:
        self._metrics.draft_bytes.labels("received").inc(block.ByteSize())
        if refused := "epoch" if block.epoch != self._epoch else self.inbox.receive(block):
            self._metrics.discarded_blocks.labels(refused).inc()
            return
        if block.outcomes and all(outcome.path for outcome in block.outcomes):
            self._observe_ahead(block)
        self.endpoint.answered()
        self.is_waited_for = True

    def _observe_ahead(self, block: draft_pb2.Block) -> None:
        """Records what it took to draft ahead. A tree's passes are counted by what was asked for:
        where its proposals end early depends on their tokens, on which no choice may depend.
        """
        asked = self.inbox.asked(block.base_len)
        if asked is None or not asked.outcomes:
            return
        spent_s = time.perf_counter() - asked.at
        draft_s = block.draft_s if 0 <= block.draft_s <= spent_s else spent_s
        self.times.observe_ahead(asked.outcomes, draft_s, asked.k)
        if not asked.is_waited_for:
            self.times.observe_network(spent_s - draft_s)


class _Outgoing:
    """The messages to a draft service, until `end`.

    It is no generator: gRPC's task waits in it, and has to be told when the call is over. A call
    that the other side ended does not cancel that task.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[draft_pb2.DraftRequest | None] = asyncio.Queue()

    def send(self, message: draft_pb2.DraftRequest) -> None:
        """Sends a message."""
        self._queue.put_nowait(message)

    def end(self) -> None:
        """Ends the messages; nothing is sent afterwards."""
        self._queue.put_nowait(None)

    def __aiter__(self) -> "_Outgoing":
        return self

    async def __anext__(self) -> draft_pb2.DraftRequest:
        message = await self._queue.get()
        if message is None:
            raise StopAsyncIteration
        return message
