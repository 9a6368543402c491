"""The chunks that a call streams, in a bounded queue between its sequences and the wire.

A reader that does not read stops its own sequences and does not fill the memory of the service.
This module knows nothing of strategies.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from foredraft.v1 import target_pb2
from foredraft_engine.proposal import Logprobs, Verdict
from foredraft_engine.score_rows import ScoreRow
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.overload import UnreadError
from foredraft_serving.tracing import event
from target_service.output.round_report import TARGET
from target_service.output.stopping import Taken

_MAX_QUEUED_BYTES = 1 << 20
# How long a reader that is so far behind keeps its row while others wait for one.
_PATIENCE_S = 0.5
_CHUNK_BYTES = 4 << 20  # of score rows; readers accept messages of a limited size only
_LOGPROB_BYTES = 12  # an id and a number
_DETAIL_BYTES = 64  # of the envelope of a message among the details of a status
_NO_SCORES = Verdict(())

FINISH_REASONS = {
    "": target_pb2.FINISH_REASON_UNSPECIFIED,
    "length": target_pb2.FINISH_REASON_LENGTH,
    "eos_token": target_pb2.FINISH_REASON_EOS_TOKEN,
    "stop_string": target_pb2.FINISH_REASON_STOP_STRING,
    "max_time": target_pb2.FINISH_REASON_MAX_TIME,
}


class ChunkQueue:
    """The chunks of all sequences of a call, in the order in which they are made.

    The text of a long answer fits, so that a slow reader holds nobody up; scores of every token
    soon do not.
    """

    def __init__(self, is_row_wanted: Callable[[], bool] = lambda: False) -> None:
        """
        Args:
            is_row_wanted: whether others wait for the rows that this call holds.
        """
        self._queue: asyncio.Queue[target_pb2.Chunk] = asyncio.Queue()
        self._held_bytes = 0
        self._read = asyncio.Event()
        self._is_row_wanted = is_row_wanted

    async def put(self, chunk: target_pb2.Chunk) -> None:
        """Adds a chunk, and waits while the queue is full.

        Raises:
            UnreadError: nothing is read, and others wait for the row.
        """
        while self._held_bytes > _MAX_QUEUED_BYTES:
            self._read.clear()
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._read.wait()
            except TimeoutError:
                if self._held_bytes > _MAX_QUEUED_BYTES and self._is_row_wanted():
                    reason = f"the caller read nothing for {_PATIENCE_S:g} s while others wait"
                    raise UnreadError(reason) from None
        self._held_bytes += chunk.ByteSize()
        self._queue.put_nowait(chunk)

    async def get(self) -> target_pb2.Chunk:
        """Returns the next chunk, and waits until there is one."""
        chunk = await self._queue.get()
        self._held_bytes -= chunk.ByteSize()
        self._read.set()
        return chunk

    def unread(self, size_bytes: int) -> list[target_pb2.Chunk]:
        """Returns the chunks that nobody read, without scores, as far as they fit a size."""
        chunks: list[target_pb2.Chunk] = []
        while not self._queue.empty():
            full = self._queue.get_nowait()
            chunk = target_pb2.Chunk(
                sequence_index=full.sequence_index,
                token_ids=full.token_ids,
                text=full.text,
                finish_reason=full.finish_reason,
                origins=full.origins,
            )
            size_bytes -= chunk.ByteSize() + _DETAIL_BYTES
            if size_bytes < 0:
                break
            chunks.append(chunk)
        return chunks

    @property
    def empty(self) -> bool:
        """Whether every chunk was read."""
        return self._queue.empty()


class SequenceStream:
    """The chunks of one sequence, and the times at which they were made."""

    def __init__(
        self,
        index: int,
        chunk_queue: ChunkQueue,
        metrics: TargetMetrics,
        on_row: Callable[[], None] = lambda: None,
        began: float | None = None,
        on_tokens: Callable[[int], None] = lambda count: None,
    ) -> None:
        """
        Args:
            on_row: is called when the sequence gets its row.
            began: when the call began, on the clock of `time.perf_counter`; None is now.
            on_tokens: is called with the number of tokens whenever some were generated.
        """
        self._on_row, self._on_tokens = on_row, on_tokens
        self.had_row = False
        """Whether the sequence got its row."""
        self.index, self._chunk_queue, self._metrics = index, chunk_queue, metrics
        self.began = time.perf_counter() if began is None else began
        """When the call began, on the clock of `time.perf_counter`."""
        self._admitted_at = self._first_at = self._last_at = self.began
        self._prompt_tokens = self.generated = 0
        self.cached_tokens = 0
        """How many tokens of the prompt the row held already, or copied."""

    def admitted(self, prompt_tokens: int) -> None:
        """Records that the sequence has its row."""
        self.had_row = True
        self._on_row()
        self._admitted_at, self._prompt_tokens = time.perf_counter(), prompt_tokens
        self._metrics.prompt_tokens.inc(prompt_tokens)
        self._metrics.queue_time.observe(self._admitted_at - self.began)
        event("row", sequence=self.index)

    def prefilled(self, reused: int) -> None:
        """Records that the row holds the prompt, of which `reused` tokens were in it already."""
        self.cached_tokens = min(reused, self._prompt_tokens)
        self._metrics.prefix_queries.inc(self._prompt_tokens)
        self._metrics.prefix_hits.inc(reused)

    async def send_prompt(self, entries: Sequence[Logprobs]) -> None:
        """Streams the log-probabilities of the next tokens of the prompt."""
        each = max(1, _CHUNK_BYTES // _logprobs_bytes(entries))
        for at in range(0, len(entries), each):
            told = map(_message, entries[at : at + each])
            chunk = target_pb2.Chunk(sequence_index=self.index, prompt_logprobs=told)
            await self._chunk_queue.put(chunk)

    async def send(
        self,
        taken: Taken,
        origins: Sequence[target_pb2.TokenOrigin] = (),
        verdict: Verdict = _NO_SCORES,
        proposed: int | None = None,
        told: target_pb2.Round | None = None,
    ) -> None:
        """Streams the tokens of a round.

        Args:
            taken: the tokens and their text.
            origins: the origin of each token, or of more; empty if all are the target's own.
            verdict: holds the scores of the tokens, as far as the call requested them.
            proposed: how many tokens the round verified; None for a search, which has no rounds.
            told: what is told of the round, if the call requested it.
        """
        if taken.ids:
            self._observe(len(taken.ids))
        origins = origins or [TARGET] * len(taken.ids)
        each = _tokens_per_chunk(verdict) or max(1, len(taken.ids))
        for at in range(0, max(1, len(taken.ids)), each):
            chunk = self._chunk(taken, origins, verdict, at, at + each)
            if proposed is not None and at == 0:
                chunk.num_proposed = proposed
            if told is not None and at == 0:
                chunk.round.CopyFrom(told)
            await self._chunk_queue.put(chunk)

    def _chunk(
        self,
        taken: Taken,
        origins: Sequence[target_pb2.TokenOrigin],
        verdict: Verdict,
        start: int,
        end: int,
    ) -> target_pb2.Chunk:
        """Returns the chunk of the tokens from `start` to `end`."""
        last = end >= len(taken.ids)
        end = min(end, len(taken.ids))
        offsets = taken.offsets[start:end]
        # Text before the offset of the first token was held back from tokens sent earlier.
        first_character = offsets[0] if start else 0
        characters = slice(first_character, None if last else taken.offsets[end])
        return target_pb2.Chunk(
            sequence_index=self.index,
            token_ids=taken.ids[start:end],
            text=taken.text[characters],
            text_offsets=[offset - first_character for offset in offsets],
            num_accepted=sum(origin != TARGET for origin in origins[start:end]),
            origins=origins[start:end],
            logprobs=[_message(entry) for entry in verdict.logprobs[start:end]],
            scores=[_row_message(row) for row in verdict.scores[start:end]],
            logits=[_row_message(row) for row in verdict.logits[start:end]],
            finish_reason=FINISH_REASONS[taken.reason if last else ""],
        )

    @property
    def spent_s(self) -> float:
        """The seconds from its row to its last token."""
        return self._last_at - self._admitted_at

    def end(self, reason: str) -> None:
        """Counts the ended sequence in the metrics."""
        self._metrics.successes.labels(reason).inc()
        self._metrics.e2e.observe(time.perf_counter() - self.began)
        self._metrics.prompt_lengths.observe(self._prompt_tokens)
        self._metrics.text_lengths.observe(self.generated)
        if self.generated:
            self._metrics.decode_time.observe(self._last_at - self._first_at)

    def _observe(self, count: int) -> None:
        now = time.perf_counter()
        if not self.generated:
            self._first_at = now
            self._metrics.prefill_time.observe(now - self._admitted_at)
            event("first_tokens", sequence=self.index)
        self._metrics.token_times.observe(now - self._last_at, count, first=not self.generated)
        self._last_at = now
        self.generated += count
        self._metrics.generated_tokens.inc(count)
        self._on_tokens(count)


def _message(entry: Logprobs) -> target_pb2.TokenLogprobs:
    ids, values = zip(*entry.top, strict=True) if entry.top else ((), ())
    return target_pb2.TokenLogprobs(logprob=entry.chosen, top_ids=ids, top_logprobs=values)


def _row_message(row: ScoreRow) -> target_pb2.ScoreRow:
    ids = b"" if row.ids is None else row.ids.astype("<u4").tobytes()
    return target_pb2.ScoreRow(ids=ids, values=row.values.astype("<f4").tobytes())


def _tokens_per_chunk(verdict: Verdict) -> int:
    """Returns how many tokens fit one chunk with their scores; 0 if they have none."""
    rows = [*verdict.scores[:1], *verdict.logits[:1]]
    size_bytes = sum(row.values.nbytes + (0 if row.ids is None else row.ids.nbytes) for row in rows)
    if verdict.logprobs:
        size_bytes += _logprobs_bytes(verdict.logprobs)
    return max(1, _CHUNK_BYTES // size_bytes) if size_bytes else 0


def _logprobs_bytes(entries: Sequence[Logprobs]) -> int:
    """Returns the bytes that the log-probabilities of one token take in a message."""
    return _LOGPROB_BYTES * (1 + max((len(entry.top) for entry in entries[:1]), default=0))
