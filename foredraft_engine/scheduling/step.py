"""One forward pass for the jobs of many sequences, and the results made of its logits.

Where rows run ahead, jobs may let further passes over their own rows follow in the same step.

A step belongs to its jobs one by one. If a forward pass fails, its jobs are tried again in two
halves, until what fails is one job alone; a second pass writes the same tokens to the same places.
If the jobs of a kind cannot be finished together, each is finished alone.

This module runs on the device thread. It knows nothing of the kinds of jobs, or of who waits for
their results.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from foredraft_engine.errors import DeviceMemoryError
from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass
from foredraft_engine.job import Job, PassOutput, attempt
from foredraft_engine.model.rows import Rows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """The size of one step and how long it took."""

    waiting_s: float
    """Waiting for jobs before it."""
    forward_s: float
    """The forward pass."""
    logits_s: float
    """Making results of the logits, and the passes that follow."""
    jobs: int
    tokens: int
    """The tokens of all passes."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The results of one step and how long its two parts took."""

    results: Sequence[Any]
    """A result for each job, `UNFINISHED` if it needs another step."""
    forward_s: float
    logits_s: float
    following: Sequence[int] = ()
    """The tokens of each pass that followed on the first."""


@dataclass(frozen=True, slots=True)
class _Share:
    """One feed's part of the packed batch."""

    logits: slice
    tokens: slice


@dataclass(frozen=True, slots=True)
class _Pass:
    """A forward pass that is over, whose jobs are to be finished."""

    rows: Rows
    jobs: Sequence[Job]
    logits: Tensor
    """float32 [sum(scored), vocab]."""
    shares: Mapping[tuple[int, int], _Share]
    """Each feed's part, by the index of its job and its index within the job."""
    hidden: Tensor
    """The last hidden states of all tokens, [sum(fed), size]."""
    vocabulary_size: int
    following: list[int]
    """The tokens of each pass that followed on this one."""

    def finish(self, kind: type[Job], members: Sequence[int]) -> list[Any]:
        """Finishes the jobs at some indices together, or each alone if that fails.

        Args:
            kind: the kind of these jobs.
        """
        finished = attempt(lambda: self._finish(kind, members))
        if isinstance(finished, Exception):
            log.warning("%d jobs of a step are finished one by one: %r", len(members), finished)
            finished = [attempt(partial(self._finish_one, kind, i)) for i in members]
        return [told(result) for result in finished]

    def _finish_one(self, kind: type[Job], member: int) -> Any:
        return self._finish(kind, [member])[0]

    def _finish(self, kind: type[Job], members: Sequence[int]) -> list[Any]:
        jobs = [self.jobs[i] for i in members]
        parts = [
            self.shares[i, j].logits
            for i, job in zip(members, jobs, strict=True)
            for j in range(len(job.feeds))
        ]
        tokens = [self.shares[i, 0].tokens for i in members]
        prepare = self._prepare if self.rows.runs_ahead else None
        logits, hidden = _joined(self.logits, parts), partial(_hidden, self.hidden, tokens)
        return kind.finish(jobs, PassOutput(logits, hidden, prepare))

    def _prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        prepared = self.rows.prepare(feeds, scored)
        return replace(prepared, run=partial(self._follow, prepared))

    def _follow(
        self, prepared: ForwardPass, tensors: Sequence[Tensor], ids: Tensor | None
    ) -> Tensor:
        """Runs a pass that follows; its ids are arbitrary after scores that allow no token."""
        assert ids is not None, "a pass that follows feeds what the one before it drew"
        self.following.append(len(ids))
        logits = prepared.run(tensors, ids.clamp(max=self.vocabulary_size - 1))
        logits[:, self.vocabulary_size :] = float("-inf")
        return logits


def step(rows: Rows, jobs: Sequence[Job], vocabulary_size: int) -> StepResult:
    """Runs one forward pass over the feeds of all jobs, and finishes the jobs kind by kind.

    Args:
        jobs: jobs that have feeds.
        vocabulary_size: ids from here on are padding and get no probability.

    Returns:
        The results; that of a job that fails is its exception.
    """
    made = attempt(lambda: _step(rows, jobs, vocabulary_size))
    if isinstance(made, StepResult):
        return made
    if len(jobs) == 1:
        return StepResult([told(made)], 0.0, 0.0)
    log.warning("a step of %d jobs failed and is tried again in halves: %r", len(jobs), made)
    del made  # its frames hold the tensors of the failed pass
    if rows.device.type == "cuda":
        torch.cuda.empty_cache()
    half = len(jobs) // 2
    first, second = (step(rows, part, vocabulary_size) for part in (jobs[:half], jobs[half:]))
    return StepResult(
        [*first.results, *second.results],
        first.forward_s + second.forward_s,
        first.logits_s + second.logits_s,
        [*first.following, *second.following],
    )


def finish_without_pass(jobs: Sequence[Job]) -> list[Any]:
    """Finishes jobs that feed nothing; returns a result for each."""
    nothing = PassOutput(torch.empty(0, 0), lambda at: torch.empty(0, 0))
    return [told(attempt(partial(_finish_call, job, nothing))) for job in jobs]


def _finish_call(job: Job, nothing: PassOutput) -> Any:
    return type(job).finish([job], nothing)[0]


def told(result: Any) -> Any:
    """Returns a result, or the exception that tells the caller of its failure.

    A lack of memory has an exception of its own, whatever the device raises for it.
    """
    if not isinstance(result, MemoryError | torch.OutOfMemoryError) and not (
        isinstance(result, RuntimeError) and "can't allocate memory" in str(result)
    ):
        return result
    return DeviceMemoryError(
        "the device has too little memory for this request; a shorter prompt or fewer sequences "
        "may fit, and the operator can start the service with smaller --rows or --max-length"
    )


def _step(rows: Rows, jobs: Sequence[Job], vocabulary_size: int) -> StepResult:
    began = time.perf_counter()
    packed = _packed(jobs)
    scored = [jobs[i].scored for i, _, _ in packed]
    logits = rows.forward([feed for _, _, feed in packed], scored)
    logits[:, vocabulary_size:] = float("-inf")
    forwarded = time.perf_counter()
    shares, following = _shares(packed, scored), list[int]()
    done = _Pass(rows, jobs, logits, shares, rows.hidden, vocabulary_size, following)
    results: list[Any] = [None] * len(jobs)
    for kind, members in _by_kind(jobs).items():
        for i, result in zip(members, done.finish(kind, members), strict=True):
            results[i] = result
    # Measured here, before the event loop wakes and competes for the interpreter.
    return StepResult(results, forwarded - began, time.perf_counter() - forwarded, following)


def _packed(jobs: Sequence[Job]) -> list[tuple[int, int, Feed]]:
    """Returns all feeds in the order of their rows: job index, index within the job, feed."""
    feeds = [(i, j, feed) for i, job in enumerate(jobs) for j, feed in enumerate(job.feeds)]
    return sorted(feeds, key=lambda one: one[2].row)


def _shares(
    packed: Sequence[tuple[int, int, Feed]], scored: Sequence[int]
) -> dict[tuple[int, int], _Share]:
    """Returns each feed's part of the batch, by job index and index within the job."""
    shares: dict[tuple[int, int], _Share] = {}
    row, token = 0, 0
    for (i, j, feed), n in zip(packed, scored, strict=True):
        shares[i, j] = _Share(slice(row, row + n), slice(token, token + len(feed.ids)))
        row, token = row + n, token + len(feed.ids)
    return shares


def _by_kind(jobs: Sequence[Job]) -> dict[type[Job], list[int]]:
    """Returns the indices of the jobs of each kind, in the order of their rows."""
    kinds: dict[type[Job], list[int]] = {}
    for i in sorted(range(len(jobs)), key=lambda i: jobs[i].feeds[0].row):
        kinds.setdefault(type(jobs[i]), []).append(i)
    return kinds


def _joined(logits: Tensor, parts: Sequence[slice]) -> Tensor:
    """Returns these rows of the logits; neighbouring parts are not copied."""
    if all(a.stop == b.start for a, b in pairwise(parts)):
        return logits[parts[0].start : parts[-1].stop]
    return torch.cat([logits[part] for part in parts])


def _hidden(hidden: Tensor, tokens: Sequence[slice], at: int) -> Tensor:
    return hidden[tokens[at]]
