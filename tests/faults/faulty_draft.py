"""A draft whose stream has one fault, at one block; before and after, it is a real one."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from foredraft.v1 import draft_pb2, draft_pb2_grpc
from tests.loopback import served

Fault = Callable[[draft_pb2.Block, Any], AsyncIterator[draft_pb2.Block]]
"""What a stream sends in place of a block; it may end the call."""
LATE_S = 0.3


def _status(code: grpc.StatusCode) -> Fault:
    async def fault(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
        await context.abort(code, "as the test wants it")
        yield block

    return fault


async def _mute(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
    await asyncio.Event().wait()
    yield block


async def _late(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
    await asyncio.sleep(LATE_S)
    yield block


async def _doubled(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
    yield block
    yield block


async def _end(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
    for _ in range(0):
        yield block


async def _dropped(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
    for _ in range(0):
        yield block


def _changed(change: Callable[[draft_pb2.Block], None]) -> Fault:
    async def fault(block: draft_pb2.Block, context: Any) -> AsyncIterator[draft_pb2.Block]:
        changed = draft_pb2.Block()
        changed.CopyFrom(block)
        change(changed)
        yield changed

    return fault


def _proposals(change: Callable[[draft_pb2.Proposal], None]) -> Fault:
    def every(block: draft_pb2.Block) -> None:
        for outcome in block.outcomes:
            change(outcome.proposal)

    return _changed(every)


def _q(*probabilities: float) -> Callable[[draft_pb2.Proposal], None]:
    def change(proposal: draft_pb2.Proposal) -> None:
        count, each = len(probabilities), max(1, len(proposal.ids))
        proposal.q.ids = struct.pack(f"<{count}I", *range(count)) * each
        proposal.q.probabilities = struct.pack(f"<{count}f", *probabilities) * each
        proposal.q.counts[:] = [count] * each

    return change


def _long(proposal: draft_pb2.Proposal) -> None:
    proposal.ids[:] = [1] * 10_000
    proposal.ClearField("q")


def _foreign(block: draft_pb2.Block) -> None:
    """Makes a block that another sequence would have, of the same length and epoch."""
    for outcome in block.outcomes:
        outcome.path[:] = [(token + 1) % 5 for token in outcome.path]
        outcome.proposal.ids[:] = [(token + 1) % 5 for token in outcome.proposal.ids]
        outcome.proposal.ClearField("q")


FAULTS: dict[str, Fault] = {
    **{f"status {c.name}": _status(c) for c in grpc.StatusCode if c is not grpc.StatusCode.OK},
    "mute": _mute,
    "late": _late,
    "a block is doubled": _doubled,
    "a block is lost": _dropped,
    "the stream ends": _end,
    "a block of another sequence": _changed(_foreign),
    "a block of an older epoch": _changed(lambda block: setattr(block, "epoch", 0)),
    "a block of a later epoch": _changed(lambda block: setattr(block, "epoch", block.epoch + 1)),
    "a block on an older base": _changed(lambda block: setattr(block, "base_len", 2)),
    "a block on a later base": _changed(
        lambda block: setattr(block, "base_len", block.base_len + 3)
    ),
    "NaN in q": _proposals(_q(float("nan"), 1.0)),
    "infinity in q": _proposals(_q(float("inf"))),
    "negative q": _proposals(_q(-0.5, 1.5)),
    "q that adds up to 0.1": _proposals(_q(0.1)),
    "torn q": _proposals(lambda proposal: setattr(proposal.q, "ids", b"abc")),
    "10,000 tokens": _proposals(_long),
    "ids out of range": _proposals(lambda proposal: proposal.ids.append(2**32 - 1)),
    "a block without outcomes": _changed(lambda block: block.ClearField("outcomes")),
}


class FaultyDraft(draft_pb2_grpc.DraftServiceServicer):
    """Passes streams on to a real draft; `fault` befalls the message number `at` of a stream, where
    0 opens it and the others are blocks.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = draft_pb2_grpc.DraftServiceStub(self._channel)
        self.fault: Fault | None = None
        self.at = 0
        self.messages = 0
        """The number of messages that came on the last stream."""
        self.happened = 0
        """How often the fault happened."""

    async def Draft(self, requests: Any, context: Any) -> AsyncIterator[draft_pb2.DraftResponse]:
        call, self.messages = self._stub.Draft(requests), 0
        try:
            async for response in call:
                self.messages += 1
                if self.fault is None or self.messages != self.at + 1:
                    yield response
                    continue
                fault, self.fault = self.fault, None
                self.happened += 1
                async for block in fault(response.block, context):
                    yield draft_pb2.DraftResponse(block=block)
                if fault is _end:
                    return
        finally:
            call.cancel()

    async def close(self) -> None:
        """Closes the connection to the real draft."""
        await self._channel.close()


@asynccontextmanager
async def faulty(address: str) -> AsyncIterator[tuple[str, FaultyDraft]]:
    """Stands in front of a draft; gives the address, and what decides on faults."""
    draft = FaultyDraft(address)  # type: ignore[abstract]
    try:
        async with served(
            draft, draft_pb2_grpc.add_DraftServiceServicer_to_server, grace_s=None
        ) as place:
            yield place, draft
    finally:
        await draft.close()
