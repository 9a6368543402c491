"""The record of one sequence: what is counted and logged, from its `Open` to its end.

This module knows nothing of how a sequence is drafted.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from types import TracebackType

from foredraft.tracing import Span
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.proposal import Outcome, Proposal
from foredraft_serving.logs import fields
from foredraft_serving.metrics import DraftMetrics
from foredraft_serving.overload import OverloadError

log = logging.getLogger(__name__)


class SequenceRecord:
    """Counts one sequence, and logs it when it is left as a context manager."""

    def __init__(self, metrics: DraftMetrics, span: Span) -> None:
        self._metrics, self._span = metrics, span
        self._began = time.perf_counter()
        self._opened: dict[str, int] | None = None
        self._rounds = self._proposed = self._accepted = 0

    def opened(self, sequence_index: int, prompt_tokens: int) -> None:
        """Records that the sequence is valid and followed."""
        self._opened = {"sequence": sequence_index, "prompt_tokens": prompt_tokens}
        self._metrics.sessions.inc()

    def sent(self, proposal: Proposal, spent_s: float) -> None:
        """Records that a proposal went out for which the target waits."""
        self._proposed += len(proposal.ids)
        self._metrics.observe_block(proposal.made_by, len(proposal.ids), spent_s)

    def pushed(self, outcomes: Sequence[Outcome], spent_s: float) -> None:
        """Records that proposals for outcomes went out ahead of the verdict."""
        self._proposed += _tokens(outcomes)
        self._metrics.observe_ahead(len(outcomes), _tokens(outcomes), spent_s)

    def foresaw(self, outcomes: Sequence[Outcome], found: Proposal | None) -> None:
        """Records which of the pushed proposals the verdict made useful."""
        self._metrics.wasted_tokens.inc(_tokens(outcomes) - (len(found.ids) if found else 0))

    def committed(self, own: Proposal, accepted_ids: Sequence[int]) -> None:
        """Records that a round of the target ended.

        Args:
            own: the proposal that was verified, if it came from this service.
        """
        accepted = len(accepted_ids) if own.allows(accepted_ids) else 0
        self._rounds += 1
        self._accepted += accepted
        self._metrics.rounds.inc()
        self._metrics.acceptance.observe(accepted)

    def gave_up(self) -> None:
        """Records that a commit overtook a proposal."""
        self._metrics.cancelled.inc()

    def __enter__(self) -> "SequenceRecord":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The target ends a sequence by leaving its stream.
        left = error is None or isinstance(error, asyncio.CancelledError | GeneratorExit)
        outcome = "done" if left else _outcome(error)
        self._metrics.requests.labels(outcome).inc()
        if self._opened is not None:
            self._metrics.sessions.dec()
        rounds = {"rounds": self._rounds, "proposed": self._proposed, "accepted": self._accepted}
        said = {**(self._opened or {}), **rounds}
        self._span.end(outcome, left, said)
        level, spent_s = (
            logging.INFO if left or outcome == "refused" else logging.WARNING,
            time.perf_counter() - self._began,
        )
        log.log(level, "sequence ended", extra=fields(outcome=outcome, **said, duration_s=spent_s))


def _outcome(error: BaseException | None) -> str:
    if isinstance(error, OverloadError):
        return "refused"
    return "invalid" if isinstance(error, InvalidFieldError) else "error"


def _tokens(outcomes: Sequence[Outcome]) -> int:
    return sum(len(outcome.proposal.ids) for outcome in outcomes)
