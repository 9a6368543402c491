"""The output of one sequence: its stop conditions and its stream.

This module knows nothing of how tokens are chosen.
"""

from collections.abc import Sequence

from foredraft.v1 import target_pb2
from target_service.output.stopping import Stopping
from target_service.output.stream import FINISH_REASONS, SequenceStream
from target_service.request.plan import Plan


class SequenceOutput:
    """Takes the tokens of one sequence until it ends."""

    def __init__(self, stopping: Stopping, stream: SequenceStream) -> None:
        self.stopping, self.stream = stopping, stream
        self._score: float | None = None

    async def send(self, ids: Sequence[int]) -> None:
        """Streams tokens that are certain."""
        if ids:
            await self.stream.send(self.stopping.take(ids))

    async def finish(self, ids: Sequence[int], score: float | None = None) -> None:
        """Streams the last tokens. If they do not end the sequence, it ran out of time.

        Args:
            ids: the last tokens, which may be none.
            score: the score of the sequence, if a beam search found it.
        """
        self._score = score
        taken = self.stopping.take(ids)
        await self.stream.send(taken if taken.reason else self.stopping.expire(taken))

    def summary(self, plan: Plan, stats: target_pb2.SpeculationStats) -> target_pb2.SequenceSummary:
        """Counts the ended sequence in the metrics and returns its summary."""
        ended = self.stopping.reason
        self.stream.end(ended)
        return target_pb2.SequenceSummary(
            sequence_index=self.stream.index,
            finish_reason=FINISH_REASONS[ended],
            prompt_tokens=plan.sampling.prompt_length,
            generated_tokens=self.stream.generated,
            stats=stats,
            score=self._score,
            cached_tokens=self.stream.cached_tokens,
            stop_string=self.stopping.stop_string if ended == "stop_string" else None,
        )
