"""What a call streams: a bounded queue between the sequences that fill it and the wire that empties
it.

A reader that does not read stops its sequences, not the service's memory. Knows nothing of
strategies.
"""

import asyncio
import time

from foredraft.v1 import target_pb2
from foredraft_engine.proposal import Logprobs, Verdict
from foredraft_engine.score_rows import ScoreRow
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.tracing import event
from target_service.output.stopping import Taken

_LIMIT = 64
_CHUNK_BYTES = 4 << 20
_NOTHING_MORE = Verdict(())

REASONS = {
    "": target_pb2.FINISH_REASON_UNSPECIFIED,
    "length": target_pb2.FINISH_REASON_LENGTH,
    "eos_token": target_pb2.FINISH_REASON_EOS_TOKEN,
    "stop_string": target_pb2.FINISH_REASON_STOP_STRING,
    "max_time": target_pb2.FINISH_REASON_MAX_TIME,
}


class ChunkQueue:
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

    def __init__(self, index: int, chunk_queue: ChunkQueue, metrics: TargetMetrics) -> None:
        self.index, self._outbox, self._metrics = index, chunk_queue, metrics
        self._began = self._row_at = self._first_at = self._last = time.perf_counter()
        self._prompt_tokens = self.generated = 0

    def admitted(self, prompt_tokens: int) -> None:
        """The sequence has its row."""
        self._row_at, self._prompt_tokens = time.perf_counter(), prompt_tokens
        self._metrics.prompt_tokens.inc(prompt_tokens)
        self._metrics.queue_time.observe(self._row_at - self._began)
        event("row", sequence=self.index)

    def prefilled(self, found: int) -> None:
        """Its row holds the prompt, of which so many tokens were not fed, but found."""
        self._metrics.prefix_queries.inc(self._prompt_tokens)
        self._metrics.prefix_hits.inc(found)

    async def send(self, taken: Taken, accepted: int, verdict: Verdict = _NOTHING_MORE) -> None:
        """Streams the tokens of a round;

        `accepted` of them were proposed. The verdict has what else was asked for.
        """
        if taken.ids:
            self._time(len(taken.ids))
        each = _rows_of_a_chunk(verdict) or max(1, len(taken.ids))
        for at in range(0, max(1, len(taken.ids)), each):
            await self._outbox.put(self._chunk(taken, accepted, verdict, at, at + each))

    def _chunk(
        self, taken: Taken, accepted: int, verdict: Verdict, start: int, end: int
    ) -> target_pb2.Chunk:
        """Of the tokens from `start` to `end`."""
        last = end >= len(taken.ids)
        end = min(end, len(taken.ids))
        offsets = taken.offsets[start:end]
        first_character = offsets[0] if offsets else 0
        characters = slice(first_character, None if last else taken.offsets[end])
        return target_pb2.Chunk(
            sequence_index=self.index,
            token_ids=taken.ids[start:end],
            text=taken.text[characters],
            text_offsets=[offset - first_character for offset in offsets],
            num_accepted=max(0, min(accepted, end) - start),
            logprobs=[_message(entry) for entry in verdict.logprobs[start:end]],
            scores=[_row_message(row) for row in verdict.scores[start:end]],
            logits=[_row_message(row) for row in verdict.logits[start:end]],
            finish_reason=REASONS[taken.reason if last else ""],
        )

    def end(self, reason: str) -> None:
        """Counts the sequence."""
        self._metrics.successes.labels(reason).inc()
        self._metrics.e2e.observe(time.perf_counter() - self._began)
        self._metrics.prompt_lengths.observe(self._prompt_tokens)
        self._metrics.text_lengths.observe(self.generated)
        if self.generated:
            self._metrics.decode_time.observe(self._last - self._first_at)

    def _time(self, count: int) -> None:
        now = time.perf_counter()
        if not self.generated:
            self._first_at = now
            self._metrics.prefill_time.observe(now - self._row_at)
            event("first_tokens", sequence=self.index)
        self._metrics.token_times.observe(now - self._last, count, first=not self.generated)
        self._last = now
        self.generated += count
        self._metrics.generated_tokens.inc(count)


def _message(entry: Logprobs) -> target_pb2.TokenLogprobs:
    ids, values = zip(*entry.top, strict=True) if entry.top else ((), ())
    return target_pb2.TokenLogprobs(logprob=entry.chosen, top_ids=ids, top_logprobs=values)


def _row_message(row: ScoreRow) -> target_pb2.ScoreRow:
    ids = b"" if row.ids is None else row.ids.astype("<u4").tobytes()
    return target_pb2.ScoreRow(ids=ids, values=row.values.astype("<f4").tobytes())


def _rows_of_a_chunk(verdict: Verdict) -> int:
    """Tokens of one chunk with their rows, since a reader takes messages of a limited size;

    0 where there are none.
    """
    rows = [*verdict.scores[:1], *verdict.logits[:1]]
    size_bytes = sum(row.values.nbytes + (0 if row.ids is None else row.ids.nbytes) for row in rows)
    return max(1, _CHUNK_BYTES // size_bytes) if size_bytes else 0
