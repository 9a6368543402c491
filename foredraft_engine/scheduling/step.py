"""One forward pass for the jobs of many sequences, and the results made of its logits.

This module runs on the device thread. It knows nothing of the kinds of jobs, or of who waits for
their results.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from foredraft_engine.feed import Feed
from foredraft_engine.job import Job, PassOutput
from foredraft_engine.model.rows import Rows


@dataclass(frozen=True, slots=True)
class Step:
    """The size of one step and how long it took."""

    waiting_s: float
    """Waiting for jobs before it."""
    forward_s: float
    """The forward pass."""
    logits_s: float
    """Making results of the logits."""
    jobs: int
    tokens: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """The results of one step and how long its two parts took."""

    results: Sequence[Any]
    """A result for each job, `UNFINISHED` if it needs another step."""
    forward_s: float
    logits_s: float


@dataclass(frozen=True, slots=True)
class _Share:
    """One feed's part of the packed batch."""

    logits: slice
    tokens: slice


def step(rows: Rows, jobs: Sequence[Job], vocabulary_size: int) -> StepResult:
    """Runs one forward pass over the feeds of all jobs, and finishes the jobs kind by kind.

    Args:
        jobs: jobs that have feeds.
        vocabulary_size: ids from here on are padding and get no probability.
    """
    began = time.perf_counter()
    packed = _packed(jobs)
    scored = [jobs[i].scored for i, _, _ in packed]
    logits = rows.forward([feed for _, _, feed in packed], scored)
    logits[:, vocabulary_size:] = float("-inf")
    forwarded = time.perf_counter()
    shares = _shares(packed, scored)
    results: list[Any] = [None] * len(jobs)
    for kind, members in _by_kind(jobs).items():
        parts = [shares[i, j].logits for i in members for j in range(len(jobs[i].feeds))]
        tokens = [shares[i, 0].tokens for i in members]
        output = PassOutput(_joined(logits, parts), partial(_hidden, rows, tokens))
        finished = kind.finish([jobs[i] for i in members], output)
        for i, result in zip(members, finished, strict=True):
            results[i] = result
    # Measured here, before the event loop wakes and competes for the interpreter.
    return StepResult(results, forwarded - began, time.perf_counter() - forwarded)


def finish_without_pass(jobs: Sequence[Job]) -> list[Any]:
    """Finishes jobs that feed nothing; returns a result for each."""
    nothing = PassOutput(torch.empty(0, 0), lambda at: torch.empty(0, 0))
    return [result for job in jobs for result in type(job).finish([job], nothing)]


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


def _hidden(rows: Rows, tokens: Sequence[slice], at: int) -> Tensor:
    return rows.hidden[tokens[at]]
