"""The jobs that are no speculation: scoring tokens, and calls of the device thread.

This module knows nothing of threads, of who owns a row, or of where proposals come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foredraft_engine.feed import Feed
from foredraft_engine.job import Job, PassOutput, attempt

Reduce = Callable[[Tensor, Tensor], Any]
"""Computes a result from logits, float32 [scored, vocab], and last hidden states, [tokens fed,
size]. It is called on the device thread.
"""


@dataclass(frozen=True, slots=True)
class ScoreJob(Job):
    """Scores tokens; its result is their logits, float32 [scored, vocab], or what `reduce` makes of
    them.
    """

    feed: Feed
    scored: int = 0
    reduce: Reduce | None = None

    @property
    def feeds(self) -> Sequence[Feed]:
        return (self.feed,)

    @classmethod
    def finish(cls, jobs: Sequence["ScoreJob"], output: PassOutput) -> list[Any]:
        parts = output.logits.split([job.scored for job in jobs])
        return [
            job._result(part, output, i)
            for i, (job, part) in enumerate(zip(jobs, parts, strict=True))
        ]

    def _result(self, logits: Tensor, output: PassOutput, index: int) -> Any:
        reduce = self.reduce
        return logits if reduce is None else attempt(lambda: reduce(logits, output.hidden(index)))


@dataclass(frozen=True, slots=True)
class DeviceCall(Job):
    """Calls a function on the device thread, before the next forward pass begins."""

    call: Callable[[], Any]

    @property
    def feeds(self) -> Sequence[Feed]:
        return ()

    @classmethod
    def finish(cls, jobs: Sequence["DeviceCall"], output: PassOutput) -> list[Any]:
        return [attempt(job.call) for job in jobs]
