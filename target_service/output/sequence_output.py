"""Where the tokens of one returned sequence go:

what ends it, and its stream. Knows nothing of how they are chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import target_pb2
from target_service.output.stopping import Stopping, Taken
from target_service.output.stream import REASONS, SequenceStream
from target_service.request.plan import Plan


@dataclass(slots=True)
class SequenceOutput:
    """Of one sequence."""

    stopping: Stopping
    stream: SequenceStream
    score: float | None = None
    """Of a beam search."""

    async def send(self, ids: Sequence[int]) -> None:
        """Streams tokens that are certain."""
        if ids:
            await self.stream.send(self.stopping.take(ids), 0)

    async def finish(self, ids: Sequence[int]) -> None:
        """Streams the last tokens; if they do not end the sequence, it was out of time."""
        taken = self.stopping.take(ids)
        if not taken.reason:
            self.stopping.reason = "max_time"
            taken = Taken(taken.ids, taken.text + self.stopping.flush(), "max_time", taken.offsets)
        await self.stream.send(taken, 0)

    def ended(self, plan: Plan, stats: target_pb2.SpeculationStats) -> target_pb2.SequenceSummary:
        """Counts the sequence, and says how it ended."""
        self.stream.end(self.stopping.reason)
        return target_pb2.SequenceSummary(
            sequence_index=self.stream.index,
            finish_reason=REASONS[self.stopping.reason],
            prompt_tokens=plan.sampling.prompt_length,
            generated_tokens=self.stream.generated,
            stats=stats,
            score=self.score,
        )
