"""The engine: one device thread, any number of coroutines.

Coroutines await `score`, `verify`, `draft` and `ahead`; whatever waits when the device is free becomes one
forward pass over ragged rows (continuous batching). A proposal stays on the device thread from its
first token to its last. Long prompts come in chunks, between which others have their step.

Knows nothing of gRPC, of what a strategy is, or of text.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from decoding.ahead import Ahead, AheadJob, Turnout, ahead_jobs
from decoding.cache import Feed, Tree
from decoding.jobs import DraftJob, ScoreJob, VerifyJob, draft_jobs, verify_jobs
from decoding.line import Job, Line, Waiting, resolve
from decoding.pace import StepTimes
from decoding.pool import Row, RowPool
from decoding.processors import Processors
from decoding.proposal import Proposal, Verdict
from decoding.rows import Rows
from decoding.view import Choose

J = TypeVar("J", ScoreJob, VerifyJob, DraftJob, AheadJob)


@dataclass(frozen=True, slots=True)
class Step:
    """How one step went, in seconds: waiting for work, the forward pass, what was made of the logits."""

    waiting_s: float
    forward_s: float
    logits_s: float
    jobs: int
    tokens: int


class Engine:
    """A model that many sequences share."""

    def __init__(
        self,
        rows: Rows,
        vocabulary_size: int,
        *,
        chunk_tokens: int = 256,
        on_step: Callable[[Step], None] | None = None,
        pace: StepTimes | None = None,
    ) -> None:
        """vocabulary_size: ids from here on are padding and never chosen. chunk_tokens: new tokens in
        one step, beyond what a single job needs. on_step: called on the device thread. pace: what is known of
        its steps already."""
        self.rows = rows
        self.pool = RowPool(rows.count)
        self.device = rows.device
        self.capacity = rows.capacity
        self.vocabulary_size = vocabulary_size
        self.chunk_tokens = chunk_tokens
        self.pace = pace or StepTimes()
        self._on_step = on_step
        self._line = Line(chunk_tokens, self.pace)
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the device thread; coroutines that still wait are cancelled."""
        self._line.close()
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
        result: Tensor = await self._line.submit(ScoreJob(row.index, len(row.cached), ids, scored, row.cache))
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
        """Verifies a proposal on the committed tokens in one forward pass over k + 1 tokens and its alternatives.

        The row afterwards holds the committed and the accepted tokens, but for an alternative, which is fed again;
        the verdict's last id is new.
        """
        start = len(row.cached)
        new, beside = tokens[start:], proposal.alternatives
        if len(beside) > self.rows.spare:
            raise ValueError(f"{len(beside)} alternatives, where rows have {self.rows.spare} places for them")
        ids = [*new, *proposal.ids, *(token for _, token in beside)]
        tree = Tree.beside(start, len(ids) - len(beside), [len(new) + at for at, _ in beside])
        job = VerifyJob(row.index, start, ids, list(tokens), proposal, processors, logprobs, tree, row.cache)
        verdict: Verdict = await self._line.submit(job)
        row.cached.extend([*new, *verdict.ids[: verdict.accepted - verdict.beside]])
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
        choose: Choose | None = None,
        alternatives: int = 0,
    ) -> Proposal:
        """Drafts up to k tokens after the committed ones.

        Args:
            epoch: parts the random numbers of draft sessions on the same tokens.
            confidence: the proposal ends after a token of less probability.
            width: entries of a row of q, at most; 0 is the whole vocabulary.
            deadline: `time.monotonic()` after which no further token is drawn.
            choose: which alternatives to them, `alternatives` at most; see `decoding.view`.
        """
        start = len(row.cached)
        new = tokens[start:]
        job = DraftJob(row.index, start, new, list(tokens), k, processors, epoch, confidence, width, deadline)
        job.choose, job.alternatives = choose, alternatives
        proposal: Proposal = await self._line.submit(job)
        row.cached.extend([*new, *proposal.ids[:-1]])
        return proposal

    async def ahead(
        self,
        row: Row,
        tokens: Sequence[int],
        verified: Proposal,
        k: int,
        processors: Processors,
        choose: Choose,
        most: int,
        *,
        alternatives: int = 0,
        epoch: int = 0,
        confidence: float = 0.0,
        width: int = 0,
        turnout: Turnout | None = None,
        deadline: float = float("inf"),
    ) -> Ahead:
        """Drafts up to k tokens for each of the outcomes that the verification of a proposal may have.

        Args:
            verified: the proposal, on the committed tokens.
            choose: says which outcomes, see `decoding.view`; most: how many.
            alternatives: to the tokens of each proposal, at most.
            epoch, confidence, width: as in `draft`.
            turnout: where the caller writes the verdict once it knows it; one branch at most then goes on.
            deadline: when it is wanted; a tree that is wanted earlier goes first.
        """
        row.truncate(len(tokens) - 1)
        start = len(row.cached)
        new = [*tokens[start:], *verified.ids]
        most = max(0, min(most, (self.rows.spare - len(verified.alternatives)) // k))
        job = AheadJob(row.index, start, new, list(tokens), verified, k, most, choose, processors)
        job.alternatives = alternatives
        job.epoch, job.confidence, job.width, job.deadline = epoch, confidence, width, deadline
        job.turnout = turnout or Turnout()
        ahead: Ahead = await self._line.submit(job)
        row.cached.extend(new)
        return ahead

    # Everything below runs on the device thread.

    def _run(self) -> None:
        with torch.inference_mode():
            while batch := self._line.next():
                try:
                    unfinished = self._step(batch)
                except Exception as error:  # the fault of a step is the fault of its requests, not of the engine
                    resolve(batch, [error] * len(batch))
                    unfinished = []
                self._line.put_back(unfinished)

    def _step(self, batch: list[Waiting]) -> list[Waiting]:
        """One forward pass and what is made of its logits; returns the jobs that want another."""
        began = time.perf_counter()
        jobs = [w.job for w in batch]
        tokens = sum(len(j.ids) for j in jobs)
        logits = self.rows.forward([_feed(j) for j in jobs], [j.scored for j in jobs])
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
        if ahead := [j for j in jobs if isinstance(j, AheadJob)]:
            goes_on = ahead_jobs(ahead, _joined(ahead, parts, logits))
            results.update((id(j), j.result) for j, on in zip(ahead, goes_on, strict=True) if not on)
        made = time.perf_counter()  # before the event loop wakes and competes for the interpreter
        done = [w for w in batch if id(w.job) in results]
        resolve(done, [results[id(w.job)] for w in done])
        self.pace.observe(tokens, len(jobs), made - began)
        if self._on_step:
            self._on_step(Step(self._line.waited_s, forwarded - began, made - forwarded, len(jobs), tokens))
        return [w for w in batch if id(w.job) not in results]


def _feed(job: Job) -> Feed:
    tree = job.tree if isinstance(job, AheadJob | VerifyJob) else None
    cache = job.cache if isinstance(job, ScoreJob | VerifyJob) else None
    return Feed(job.row, job.start, job.ids, tree, cache)


def _joined(jobs: Sequence[J], parts: dict[int, Tensor], logits: Tensor) -> Tensor:
    """The logits of these jobs alone; all of them, uncopied, where there are no others."""
    chosen = [parts[id(j)] for j in jobs]
    return logits if sum(len(c) for c in chosen) == len(logits) else torch.cat(chosen)
