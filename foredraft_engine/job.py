"""A job: one sequence's share of a step of the engine.

A job says which tokens it feeds, how many of them are scored, and how the jobs of its kind turn
the logits of a step into results. A new kind of job is a new class; neither the queue nor the step
nor the engine has to know it.

This module knows nothing of threads, or of who waits for a result.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

from torch import Tensor

from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass


class Unfinished(Enum):
    """The type of `UNFINISHED`."""

    UNFINISHED = "unfinished"


UNFINISHED: Final = Unfinished.UNFINISHED
"""Stands in place of a result if a job needs another step."""


@dataclass(frozen=True, slots=True)
class PassOutput:
    """The output of one forward pass for all jobs of one kind."""

    logits: Tensor
    """float32 [n, vocab]: the scored rows of the first job's first feed, of its second feed if it
    has one, then those of the next job.
    """
    hidden: Callable[[int], Tensor]
    """Returns the last hidden states of all tokens in the first feed of the job at an index,
    [tokens, size].
    """
    prepare: Callable[[Sequence[Feed], Sequence[int]], ForwardPass] | None = None
    """Prepares a pass that follows within the step: feeds in the order of their rows, with unread
    ids, and how many of the last tokens of each are scored. None where a step is one pass.
    """


class Job(ABC):
    """One sequence's share of a step.

    Arguments of a job do not change after it was made. A job that takes several steps keeps what
    it has gathered to itself.
    """

    @property
    @abstractmethod
    def feeds(self) -> Sequence[Feed]:
        """The tokens of the next step, at most one feed for each row.

        A job without feeds takes no part in a forward pass: the device thread finishes it before
        the next one begins.
        """

    @property
    def scored(self) -> int:
        """The number of tokens at the end of each feed whose logits the job needs."""
        return 0

    @property
    def wanted_by(self) -> float | None:
        """When the result is of use, on the clock of `time.monotonic()`.

        None if a sequence waits for the result now. Other jobs join a step if there is room, the
        most urgent first.
        """
        return None

    @property
    def is_timed(self) -> bool:
        """Whether a step of this job alone tells how long steps of its width take.

        A step is not timed if this is so for none of its jobs.
        """
        return True

    @property
    def tokens_fed(self) -> int:
        """The number of tokens that the job adds to the next step."""
        return sum(len(feed.ids) for feed in self.feeds)

    @classmethod
    @abstractmethod
    def finish(cls, jobs: Sequence[Self], output: PassOutput) -> list[Any]:
        """Turns the logits of a step into results, for all jobs of this kind as one batch.

        The method runs on the device thread. If it raises, no job may have moved on: each is then
        finished alone, so that only the job that is to blame fails. What comes after the first
        change of a job is therefore tried for each job by itself, see `attempt`.

        Args:
            jobs: the jobs of this kind in one step, in the order of their rows.
            output: what the forward pass gave for them.

        Returns:
            For each job its result, the exception that it fails with, or `UNFINISHED` if it needs
            another step.
        """


def attempt(call: Callable[[], Any]) -> Any:
    """Returns the result of a call, or the exception that it raised.

    The failure of one job must not fail the other jobs of a step.
    """
    try:
        return call()
    except Exception as error:
        return error
