"""One forward pass for the jobs of many sequences, and what is made of its logits. Runs on the
device thread.

Knows nothing of who waits for the results.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from foredraft_engine.cache.row_cache import Feed
from foredraft_engine.model.rows import Rows
from foredraft_engine.scheduling.job_queue import Job
from foredraft_engine.scheduling.jobs import DeviceCall, DraftJob, ScoreJob, draft_jobs
from foredraft_engine.speculation.tree_job import TreeJob, grow_trees
from foredraft_engine.speculation.verify_job import Guide, VerifyJob, verify_jobs

J = TypeVar("J", ScoreJob, VerifyJob, DraftJob, TreeJob)


@dataclass(frozen=True, slots=True)
class Step:
    """How one step went, in seconds:

    waiting for work, the forward pass, what was made of the logits.
    """

    waiting_s: float
    forward_s: float
    logits_s: float
    jobs: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Made:
    """Results of the jobs that are done, by `id(job)`, and the time of the step's two parts."""

    results: dict[int, Any]
    forward_s: float
    logits_s: float


def step(rows: Rows, jobs: Sequence[Job], vocabulary_size: int) -> Made:
    """One pass over all of them; a job without a result wants another."""
    began = time.perf_counter()
    fed = _fed(jobs)
    logits = rows.forward([feed for feed, _, _ in fed], [job.scored for _, job, _ in fed])
    logits[:, vocabulary_size:] = float("-inf")
    forwarded = time.perf_counter()
    parts = _parts(fed, logits)
    results = _scores(fed, parts, rows)
    if verifying := [j for j in jobs if isinstance(j, VerifyJob)]:
        verdicts = verify_jobs(verifying, _joined(verifying, parts, logits))
        results.update(zip(map(id, verifying), verdicts, strict=True))
    if drafting := [j for j in jobs if isinstance(j, DraftJob)]:
        goes_on = draft_jobs(drafting, _joined(drafting, parts, logits))
        results.update(
            (id(j), j.proposal) for j, on in zip(drafting, goes_on, strict=True) if not on
        )
    if ahead := [j for j in jobs if isinstance(j, TreeJob)]:
        goes_on = grow_trees(ahead, _joined(ahead, parts, logits))
        results.update((id(j), j.result) for j, on in zip(ahead, goes_on, strict=True) if not on)
    # Before the event loop wakes and competes for the interpreter.
    return Made(results, forwarded - began, time.perf_counter() - forwarded)


def attempt(run: Callable[[], Any]) -> Any:
    """Its result, or the error that it raised:

    the fault of one sequence is not that of its neighbours.
    """
    try:
        return run()
    except Exception as error:
        return error


def _fed(jobs: Sequence[Job]) -> list[tuple[Feed, Job, Guide | None]]:
    """What is fed for whom, in the order of the rows; a guide has a feed of its own."""
    fed: list[tuple[Feed, Job, Guide | None]] = [(_feed(job), job, None) for job in jobs]
    for job in jobs:
        if isinstance(job, VerifyJob) and (guide := job.guide):
            fed.append(
                (Feed(guide.row, guide.start, guide.ids, guide.tree, guide.cache), job, guide)
            )
    return sorted(fed, key=lambda one: one[0].row)


def _parts(fed: Sequence[tuple[Feed, Job, Guide | None]], logits: Tensor) -> dict[int, Tensor]:
    """The logits of each job, by its id: those that its tokens are chosen by."""
    split = list(zip(fed, logits.split([job.scored for _, job, _ in fed]), strict=True))
    parts = {id(job): part for (_, job, guide), part in split if guide is None}
    for (_, job, guide), part in split:
        if guide and isinstance(job, VerifyJob):
            job.own = parts[id(job)]
            parts[id(job)] = guide.guided(job.own, part)
    return parts


def _scores(
    fed: Sequence[tuple[Feed, Job, Guide | None]], parts: dict[int, Tensor], rows: Rows
) -> dict[int, Any]:
    """Results of those that want logits, or something made of them."""
    results: dict[int, Any] = {}
    end = 0
    for feed, job, _ in fed:
        start, end = end, end + len(feed.ids)
        if isinstance(job, ScoreJob):
            results[id(job)] = _score(job, parts[id(job)], rows, start, end)
    return results


def _score(job: ScoreJob, logits: Tensor, rows: Rows, start: int, end: int) -> Any:
    finish = job.finish
    return logits if finish is None else attempt(lambda: finish(logits, rows.hidden[start:end]))


def _feed(job: Job) -> Feed:
    assert not isinstance(job, DeviceCall)
    tree = None if isinstance(job, DraftJob) else job.tree
    return Feed(
        job.row,
        job.start,
        job.ids,
        tree,
        job.cache if isinstance(job, ScoreJob | VerifyJob) else None,
    )


def _joined(jobs: Sequence[J], parts: dict[int, Tensor], logits: Tensor) -> Tensor:
    """The logits of these jobs alone; all of them, uncopied, where there are no others."""
    chosen = [parts[id(j)] for j in jobs]
    return logits if sum(len(c) for c in chosen) == len(logits) else torch.cat(chosen)
