"""What a call streams: a bounded queue between the sequences that fill it and the wire that empties it.

A reader that does not read stops its sequences, not the service's memory. Knows nothing of strategies.
"""

import asyncio
import time
from collections.abc import Sequence

from decoding.proposal import Logprobs
from foredraft.v1 import target_pb2
from serving.metrics import TargetMetrics
from target_service.stopping import Taken

_LIMIT = 64

REASONS = {
    "": target_pb2.FINISH_REASON_UNSPECIFIED,
    "length": target_pb2.FINISH_REASON_LENGTH,
    "eos_token": target_pb2.FINISH_REASON_EOS_TOKEN,
    "stop_string": target_pb2.FINISH_REASON_STOP_STRING,
    "max_time": target_pb2.FINISH_REASON_MAX_TIME,
}


class Outbox:
    """Chunks of all sequences of a call, in the order in which they are made."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[target_pb2.Chunk] = asyncio.Queue(_LIMIT)

    async def put(self, chunk: target_pb2.Chunk) -> None:
        """Waits while the reader is behind."""
        await self._queue.put(chunk)

    async def get(self) -> target_pb2.Chunk:
        """The next chunk."""
        return await self._queue.get()

    @property
    def empty(self) -> bool:
        """Whether everything was read."""
        return self._queue.empty()


class SequenceStream:
    """The stream of one sequence."""

    def __init__(self, index: int, outbox: Outbox, metrics: TargetMetrics) -> None:
        self.index, self._outbox, self._metrics = index, outbox, metrics
        self._began = self._last = time.perf_counter()
        self.generated = 0

    def admitted(self, prompt_tokens: int) -> None:
        """The sequence has its row."""
        self._metrics.prompt_tokens.inc(prompt_tokens)
        self._metrics.queue_time.observe(time.perf_counter() - self._began)

    async def send(self, taken: Taken, accepted: int, logprobs: Sequence[Logprobs] = ()) -> None:
        """Streams the tokens of a round; `accepted` of them were proposed."""
        if taken.ids:
            self._time(len(taken.ids))
        await self._outbox.put(
            target_pb2.Chunk(
                sequence_index=self.index,
                token_ids=taken.ids,
                text=taken.text,
                text_offsets=taken.offsets,
                num_accepted=min(accepted, len(taken.ids)),
                logprobs=[_message(entry) for entry in logprobs[: len(taken.ids)]],
                finish_reason=REASONS[taken.reason],
            )
        )

    def end(self, reason: str) -> None:
        """Counts the sequence."""
        self._metrics.successes.labels(reason).inc()
        self._metrics.e2e.observe(time.perf_counter() - self._began)

    def _time(self, count: int) -> None:
        now = time.perf_counter()
        self._metrics.token_times.observe(now - self._last, count, first=not self.generated)
        self._last = now
        self.generated += count
        self._metrics.generated_tokens.inc(count)


def _message(entry: Logprobs) -> target_pb2.TokenLogprobs:
    ids, values = zip(*entry.top, strict=True) if entry.top else ((), ())
    return target_pb2.TokenLogprobs(logprob=entry.chosen, top_ids=ids, top_logprobs=values)
