"""The engine: one device thread, any number of coroutines.

Coroutines await `score`, `verify`, `draft` and `ahead`; whatever waits when the device is free
becomes one forward pass over ragged rows (continuous batching). A proposal stays on the device
thread from its first token to its last. Long prompts come in chunks, between which others have
their step.

Knows nothing of gRPC, of what a strategy is, or of text.
"""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foredraft_engine.cache.row_cache import Tree
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.rows import Rows
from foredraft_engine.proposal import Proposal, Verdict
from foredraft_engine.scheduling.job_queue import JobQueue, Waiting, resolve
from foredraft_engine.scheduling.jobs import DeviceCall, DraftJob, Finish, ScoreJob
from foredraft_engine.scheduling.row_pool import Row, RowPool, common
from foredraft_engine.scheduling.step import Step, attempt, step
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.speculation.preview import Choose
from foredraft_engine.speculation.tree_job import DraftedAhead, EarlyVerdict, TreeJob
from foredraft_engine.speculation.verify_job import Guide, VerifyJob


@dataclass(frozen=True, slots=True)
class Guidance:
    """A second row, which follows what is generated after another prompt:

    what to go away from, and how far.
    """

    row: Row
    tokens: list[int]
    """That prompt and what was generated; whoever verifies keeps it up to date."""
    scale: float


class Engine:
    """A model that many sequences share."""

    def __init__(
        self,
        rows: Rows,
        vocabulary_size: int,
        *,
        chunk_tokens: int = 256,
        on_step: Callable[[Step], None] | None = None,
        step_times: StepTimes | None = None,
    ) -> None:
        """vocabulary_size: ids from here on are padding and never chosen. chunk_tokens: new tokens
        in one step, beyond what a single job needs. on_step: called on the device thread.
        step_times: what is known of its steps already.
        """
        self.rows = rows
        self.pool = RowPool(rows.count)
        self.device = rows.device
        self.capacity = rows.capacity
        self.vocabulary_size = vocabulary_size
        self.chunk_tokens = chunk_tokens
        self.step_times = step_times or StepTimes()
        self._on_step = on_step
        self._jobs = JobQueue(chunk_tokens, self.step_times)
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the device thread; coroutines that still wait are cancelled."""
        self._jobs.close()
        self._thread.join()

    async def prefill(self, row: Row, tokens: Sequence[int]) -> AsyncIterator[None]:
        """Feeds all tokens but the last, chunk by chunk; yields after each chunk.

        What another row of the same owner holds, or is just being fed, is copied from there.
        """
        if len(tokens) - 1 <= len(row.cached):
            return  # as in nearly every round of a draft
        self.pool.prefilling(row, tokens)
        try:
            while (source := self.pool.ahead_of(row, tokens)) is not None:
                await source.progress()
                if (length := source.shares(tokens)) > len(row.cached):
                    await self.copy(source, row, length)
            while (rest := len(tokens) - 1 - len(row.cached)) > 0:
                start = len(row.cached)
                await self.score(row, tokens[start : start + min(rest, self.chunk_tokens)], 0)
                yield
        finally:
            row.prefilled()

    async def score(
        self, row: Row, ids: Sequence[int], scored: int, finish: Finish | None = None
    ) -> Any:
        """Feeds ids after what the row holds; logits of the last `scored` ones, float32 [scored,
        vocab].

        With `finish` its result instead: what it does with logits and hidden states is done on the
            device thread.
        """
        job = ScoreJob(row.index, len(row.cached), ids, scored, finish, cache=row.cache)
        result = await self._jobs.submit(job)
        row.cached.extend(ids)
        return result

    async def score_tree(
        self, row: Row, start: int, ids: Sequence[int], tree: Tree, finish: Finish
    ) -> Any:
        """Feeds branching ids from place `start` on;

        all of them are scored. The row holds what it held before.
        """
        return await self._jobs.submit(
            ScoreJob(row.index, start, ids, len(ids), finish, tree, row.cache)
        )

    async def copy(self, source: Row, target: Row, length: int) -> None:
        """Makes the first `length` tokens of a row those of another;

        what they have in common is not touched.
        """
        start = min(common(source.cached, target.cached), length)
        copied = source.cached[:length]
        target.truncate(start)
        await self.run(lambda: self.rows.copy_row(source.index, target.index, length, start))
        target.adopt(copied)

    async def run(self, call: Callable[[], Any]) -> Any:
        """Has something done by the device thread, between two steps."""
        return await self._jobs.submit(DeviceCall(call))

    async def verify(
        self,
        row: Row,
        tokens: Sequence[int],
        proposal: Proposal,
        processors: Processors,
        logprobs: int | None = None,
        guidance: Guidance | None = None,
        scores: bool = False,
        logits: bool = False,
    ) -> Verdict:
        """Verifies a proposal on the committed tokens in one forward pass over k + 1 tokens and its
        alternatives.

        The row afterwards holds the committed and the accepted tokens, but for an alternative,
        which is fed again; the verdict's last id is new. So does the row of the guidance, in the
        same pass.

        Args:
            logprobs, scores, logits: what else is wanted of every token; so many of the most likely
                log-probabilities.
        """
        if len(proposal.alternatives) > self.rows.spare:
            raise ValueError(
                f"too many alternatives for rows that have {self.rows.spare} places for them"
            )
        ids, tree = _verified(row, tokens, proposal)
        job = VerifyJob(
            row.index,
            len(row.cached),
            ids,
            list(tokens),
            proposal,
            processors,
            logprobs,
            tree,
            row.cache,
        )
        job.scores, job.logits = scores, logits
        if guidance:
            other = guidance.row
            ids, tree = _verified(other, guidance.tokens, proposal)
            job.guide = Guide(
                other.index, len(other.cached), ids, guidance.scale, tree, other.cache
            )
        verdict: Verdict = await self._jobs.submit(job)
        accepted = verdict.ids[: verdict.accepted - verdict.beside]
        row.cached.extend([*tokens[len(row.cached) :], *accepted])
        if guidance:
            other.cached.extend([*guidance.tokens[len(other.cached) :], *accepted])
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
        """DraftPool up to k tokens after the committed ones.

        Args:
            epoch: parts the random numbers of draft sessions on the same tokens.
            confidence: the proposal ends after a token of less probability.
            width: entries of a row of q, at most; 0 is the whole vocabulary.
            deadline: `time.monotonic()` after which no further token is drawn.
            choose: which alternatives to them, `alternatives` at most; see
                `foredraft_engine.speculation.preview`.
        """
        start = len(row.cached)
        new = tokens[start:]
        job = DraftJob(
            row.index, start, new, list(tokens), k, processors, epoch, confidence, width, deadline
        )
        job.choose, job.alternatives = choose, alternatives
        proposal: Proposal = await self._jobs.submit(job)
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
        early_verdict: EarlyVerdict | None = None,
        deadline: float = float("inf"),
    ) -> DraftedAhead:
        """DraftPool up to k tokens for each of the outcomes that the verification of a proposal may
        have.

        Args:
            verified: the proposal, on the committed tokens.
            choose: says which outcomes, see `foredraft_engine.speculation.preview`; most: how many.
            alternatives: to the tokens of each proposal, at most.
            epoch, confidence, width: as in `draft`.
            early_verdict: where the caller writes the verdict once it knows it; one branch at most
            then goes on.
            deadline: when it is wanted; a tree that is wanted earlier goes first.
        """
        row.truncate(len(tokens) - 1)
        start = len(row.cached)
        new = [*tokens[start:], *verified.ids]
        most = max(0, min(most, (self.rows.spare - len(verified.alternatives)) // k))
        job = TreeJob(row.index, start, new, list(tokens), verified, k, most, choose, processors)
        job.alternatives = alternatives
        job.epoch, job.confidence, job.width, job.deadline = epoch, confidence, width, deadline
        job.early_verdict = early_verdict or EarlyVerdict()
        ahead: DraftedAhead = await self._jobs.submit(job)
        row.cached.extend(new)
        return ahead

    # Everything below runs on the device thread.

    def _run(self) -> None:
        with torch.inference_mode():
            while batch := self._jobs.next():
                try:
                    self._do([w for w in batch if isinstance(w.job, DeviceCall)])
                    unfinished = self._step([w for w in batch if not isinstance(w.job, DeviceCall)])
                except (
                    Exception
                ) as error:  # the fault of a step is the fault of its requests, not of the engine
                    resolve(batch, [error] * len(batch))
                    unfinished = []
                self._jobs.put_back(unfinished)

    def _do(self, calls: Sequence[Waiting]) -> None:
        resolve(calls, [attempt(w.job.run) for w in calls if isinstance(w.job, DeviceCall)])

    def _step(self, batch: Sequence[Waiting]) -> list[Waiting]:
        """One forward pass and what is made of it; returns the jobs that want another."""
        if not batch:
            return []
        jobs = [w.job for w in batch]
        made = step(self.rows, jobs, self.vocabulary_size)
        done = [w for w in batch if id(w.job) in made.results]
        resolve(done, [made.results[id(w.job)] for w in done])
        tokens = sum(len(j.ids) for j in jobs)
        self.step_times.observe(tokens, len(jobs), made.forward_s + made.logits_s)
        if self._on_step:
            self._on_step(
                Step(self._jobs.waited_s, made.forward_s, made.logits_s, len(jobs), tokens)
            )
        return [w for w in batch if id(w.job) not in made.results]


def _verified(row: Row, tokens: Sequence[int], proposal: Proposal) -> tuple[list[int], Tree | None]:
    """What is fed to verify a proposal:

    uncached tokens, those proposed, and their alternatives beside them.
    """
    start, beside = len(row.cached), proposal.alternatives
    chain = [*tokens[start:], *proposal.ids]
    tree = Tree.beside(start, len(chain), [len(tokens) - start + at for at, _ in beside])
    return [*chain, *(token for _, token in beside)], tree
