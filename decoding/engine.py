"""The engine: one device thread, any number of coroutines.

Coroutines await `score`, `verify` and `draft`; whatever waits when the device is free becomes one
forward pass over ragged rows (continuous batching). A proposal stays on the device thread from its
first token to its last. Long prompts come in chunks, between which others have their step.

Knows nothing of gRPC, of what a strategy is, or of text.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from decoding.cache import Feed
from decoding.jobs import DraftJob, ScoreJob, VerifyJob, draft_jobs, verify_jobs
from decoding.pool import Row, RowPool
from decoding.processors import Processors
from decoding.proposal import Proposal, Verdict
from decoding.rows import Rows

Job = ScoreJob | VerifyJob | DraftJob
J = TypeVar("J", ScoreJob, VerifyJob, DraftJob)


@dataclass(frozen=True, slots=True)
class Step:
    """How one step went, in seconds: waiting for work, the forward pass, what was made of the logits."""

    waiting_s: float
    forward_s: float
    logits_s: float
    jobs: int
    tokens: int


@dataclass(slots=True)
class _Waiting:
    job: Job
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Engine:
    """A model that many sequences share."""

    def __init__(
        self,
        rows: Rows,
        vocabulary_size: int,
        *,
        chunk_tokens: int = 256,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        """vocabulary_size: ids from here on are padding and never chosen. chunk_tokens: new tokens in
        one step, beyond what a single job needs. on_step: called on the device thread."""
        self.rows = rows
        self.pool = RowPool(rows.count)
        self.device = rows.device
        self.capacity = rows.capacity
        self.vocabulary_size = vocabulary_size
        self.chunk_tokens = chunk_tokens
        self._on_step = on_step
        self._submitted: list[_Waiting] = []  # of this turn of the event loop
        self._queue: deque[_Waiting] = deque()
        self._wanted = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the device thread; coroutines that still wait are cancelled."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()
        self._thread.join()

    async def prefill(self, row: Row, tokens: Sequence[int]) -> AsyncIterator[None]:
        """Feeds all tokens but the last, chunk by chunk; yields after each chunk."""
        while (rest := len(tokens) - 1 - len(row.cached)) > 0:
            start = len(row.cached)
            chunk = tokens[start : start + min(rest, self.chunk_tokens)]
            await self.score(row, chunk, 0)
            yield

    async def score(self, row: Row, ids: Sequence[int], scored: int) -> Tensor:
        """Feeds ids after what the row holds; logits of the last `scored` ones, float32 [scored, vocab]."""
        result: Tensor = await self._submit(ScoreJob(row.index, len(row.cached), ids, scored))
        row.cached.extend(ids)
        return result

    async def verify(
        self,
        row: Row,
        tokens: Sequence[int],
        proposal: Proposal,
        processors: Processors,
        logprobs: int | None = None,
    ) -> Verdict:
        """Verifies a proposal on the committed tokens in one forward pass over k + 1 tokens.

        The row afterwards holds the committed and the accepted tokens; the verdict's last id is new.
        """
        start = len(row.cached)
        new = tokens[start:]
        job = VerifyJob(row.index, start, [*new, *proposal.ids], list(tokens), proposal, processors, logprobs)
        verdict: Verdict = await self._submit(job)
        row.cached.extend([*new, *verdict.ids[:-1]])
        return verdict

    async def draft(
        self,
        row: Row,
        tokens: Sequence[int],
        k: int,
        processors: Processors,
        *,
        epoch: int = 0,
        confidence: float = 0.0,
        width: int = 0,
        deadline: float = float("inf"),
    ) -> Proposal:
        """Drafts up to k tokens after the committed ones.

        Args:
            epoch: parts the random numbers of draft sessions on the same tokens.
            confidence: the proposal ends after a token of less probability.
            width: entries of a row of q, at most; 0 is the whole vocabulary.
            deadline: `time.monotonic()` after which no further token is drawn.
        """
        start = len(row.cached)
        new = tokens[start:]
        job = DraftJob(row.index, start, new, list(tokens), k, processors, epoch, confidence, width, deadline)
        proposal: Proposal = await self._submit(job)
        row.cached.extend([*new, *proposal.ids[:-1]])
        return proposal

    async def _submit(self, job: Job) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._submitted:
            # Handed over at the end of this turn, so that coroutines resumed together step together.
            loop.call_soon(self._hand_over)
        self._submitted.append(_Waiting(job, future, loop))
        return await future

    def _hand_over(self) -> None:
        with self._wanted:
            self._queue.extend(self._submitted)
            self._submitted = []
            self._wanted.notify()

    # Everything below runs on the device thread.

    def _run(self) -> None:
        with torch.inference_mode():
            while batch := self._next_batch():
                try:
                    unfinished = self._step(batch)
                except Exception as error:  # the fault of a step is the fault of its requests, not of the engine
                    _resolve(batch, [error] * len(batch))
                    unfinished = []
                with self._wanted:
                    self._queue.extendleft(reversed(unfinished))

    def _next_batch(self) -> list[_Waiting]:
        began = time.perf_counter()
        with self._wanted:
            while True:
                batch = self._take()
                if batch or self._closed:
                    break
                self._wanted.wait()
            if self._closed:
                batch += self._queue
                self._queue.clear()
        self._waited_s = time.perf_counter() - began
        if self._closed:
            _resolve(batch, [asyncio.CancelledError()] * len(batch))
            return []
        return sorted(batch, key=lambda w: w.job.row)

    def _take(self) -> list[_Waiting]:
        """What waits, in order, up to the tokens of one step; a row has one job in it at a time."""
        batch: list[_Waiting] = []
        tokens = 0
        while self._queue and (not batch or tokens + len(self._queue[0].job.ids) <= self.chunk_tokens):
            waiting = self._queue.popleft()
            if not waiting.future.cancelled():
                batch.append(waiting)
                tokens += len(waiting.job.ids)
        return batch

    def _step(self, batch: list[_Waiting]) -> list[_Waiting]:
        """One forward pass and what is made of its logits; returns the jobs that want another."""
        began = time.perf_counter()
        jobs = [w.job for w in batch]
        logits = self.rows.forward([Feed(j.row, j.start, j.ids) for j in jobs], [j.scored for j in jobs])
        logits[:, self.vocabulary_size :] = float("-inf")
        forwarded = time.perf_counter()
        parts = dict(zip(map(id, jobs), logits.split([j.scored for j in jobs]), strict=True))
        results: dict[int, Any] = {id(j): parts[id(j)] for j in jobs if isinstance(j, ScoreJob)}
        if verifying := [j for j in jobs if isinstance(j, VerifyJob)]:
            verdicts = verify_jobs(verifying, _joined(verifying, parts, logits))
            results.update(zip(map(id, verifying), verdicts, strict=True))
        if drafting := [j for j in jobs if isinstance(j, DraftJob)]:
            goes_on = draft_jobs(drafting, _joined(drafting, parts, logits))
            results.update((id(j), j.proposal) for j, on in zip(drafting, goes_on, strict=True) if not on)
        made = time.perf_counter()  # before the event loop wakes and competes for the interpreter
        done = [w for w in batch if id(w.job) in results]
        _resolve(done, [results[id(w.job)] for w in done])
        if self._on_step:
            tokens = sum(len(j.ids) for j in jobs)
            self._on_step(Step(self._waited_s, forwarded - began, made - forwarded, len(jobs), tokens))
        return [w for w in batch if id(w.job) not in results]


def _joined(jobs: Sequence[J], parts: dict[int, Tensor], logits: Tensor) -> Tensor:
    """The logits of these jobs alone; all of them, uncopied, where there are no others."""
    chosen = [parts[id(j)] for j in jobs]
    return logits if sum(len(c) for c in chosen) == len(logits) else torch.cat(chosen)


def _resolve(batch: Sequence[_Waiting], results: Sequence[Any]) -> None:
    """Gives the results to the coroutines, one call for each event loop."""
    loops: dict[int, tuple[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]]] = {}
    for waiting, result in zip(batch, results, strict=True):
        loops.setdefault(id(waiting.loop), (waiting.loop, []))[1].append((waiting.future, result))
    for loop, pairs in loops.values():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, asyncio.CancelledError):
            future.cancel()
        elif isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
