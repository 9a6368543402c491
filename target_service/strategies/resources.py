"""The shape that all strategies have, and what they work with.

This module knows nothing of any one strategy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.drafters import Drafters
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.request.plan import Plan


@dataclass(frozen=True, slots=True)
class Resources:
    """What the service lends to every strategy."""

    engine: Engine
    drafters: Drafters
    metrics: TargetMetrics


class Strategy(Protocol):
    """Generates the sequences of one plan."""

    async def __call__(
        self, plan: Plan, resources: Resources, outputs: Sequence[SequenceOutput]
    ) -> SpeculationStats:
        """Streams the sequences into the outputs, one output for each, and returns the counts of
        the rounds.
        """
