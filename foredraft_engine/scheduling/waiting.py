"""What turns and pace need to know of a job that waits for a step.

This module knows nothing of queues.
"""

from typing import Protocol, TypeVar

from foredraft_engine.job import Job
from foredraft_engine.scheduling.caller import Caller


class WaitingJob(Protocol):
    """A job, and the caller for whom it waits; None if nobody said so."""

    @property
    def job(self) -> Job: ...
    @property
    def caller(self) -> Caller | None: ...


W = TypeVar("W", bound=WaitingJob)
