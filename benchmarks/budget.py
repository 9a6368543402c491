"""Tells where the time of a round goes: bare forward passes, and what the services add by their own
metrics.

This module knows nothing of other systems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bare import BareTimes
from benchmarks.contestants import Foredraft
from benchmarks.runs import Assist, Prompt, Run, Sampling
from benchmarks.services import Counters, Service

_WARM_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """The mean times of a round, in milliseconds."""

    k: int
    temperature: float
    rounds: int
    round_ms: float
    """The time of a round after the first, as the client sees it."""
    bare_target_ms: float
    bare_draft_ms: float
    """The time of k bare passes of the draft over one token."""
    parts_ms: dict[str, float]
    """The time of all rounds by part, the first round and the ends of the call included, divided by
    the number of rounds.
    """
    draft_parts_ms: dict[str, float]
    """The parts of the time that the round waits for the draft."""

    @property
    def above_bare(self) -> float:
        """The share by which a round takes longer than its bare forward passes."""
        return self.round_ms / (self.bare_target_ms + self.bare_draft_ms) - 1


def measure(
    k: int,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    target: Service,
    draft: Service,
    bare: tuple[BareTimes, ...],
) -> Budget:
    """Runs all prompts with proposals of just k tokens.

    Every prompt is read in a call of its own before. The caller's row then holds it, and the
    metrics tell of rounds alone.

    Args:
        bare: the bare times of the target and of the draft.
    """
    foredraft, assist = Foredraft(target), Assist("model" if k else "none", k)
    runs: list[Run] = []
    grown: tuple[Counters, Counters] | None = None
    for prompt in prompts:
        caller = f"budget of {k} for {prompt.name}"
        foredraft.generate(prompt, assist, Sampling(0.0, _WARM_TOKENS), caller)
        bare[0].measure(k + 1, repetitions=4)
        bare[1].measure(1, repetitions=4)
        before = target.counters(), draft.counters()
        runs.append(foredraft.generate(prompt, assist, sampling, caller))
        growth = target.counters() - before[0], draft.counters() - before[1]
        grown = growth if grown is None else (grown[0] + growth[0], grown[1] + growth[1])
    assert grown is not None, "a budget needs prompts"
    return _budget((k, sampling.temperature), runs, *grown, bare)


def _budget(
    of: tuple[int, float],
    runs: Sequence[Run],
    target: Counters,
    draft: Counters,
    bare: tuple[BareTimes, ...],
) -> Budget:
    k, temperature = of
    round_ms = sum(run.later_s for run in runs) / sum(run.later_rounds for run in runs) * 1e3
    per_round = 1e3 / sum(run.rounds for run in runs)
    parts = {
        "target: forward pass": target.seconds("step", "forward") * per_round,
        "target: verification": target.seconds("step", "verification") * per_round,
        "target: waiting for the block": target.seconds("draft_round_trip") * per_round,
    }
    call = sum(run.whole_s for run in runs) * per_round
    parts[
        "the rest: hand-over to and from the target's thread, commit, stream, the call itself"
    ] = call - sum(parts.values())
    steps = {
        "draft: forward passes": draft.seconds("step", "forward") * per_round,
        "draft: drawing": draft.seconds("step", "drawing") * per_round,
    }
    inside = draft.seconds("propose") * per_round
    draft_parts = {
        **steps,
        "draft: the rest (hand-over to and from its thread)": inside - sum(steps.values()),
        "wire, both ways, and both event loops": target.seconds("draft_round_trip") * per_round
        - inside,
    }
    return Budget(
        k=k,
        temperature=temperature,
        rounds=sum(run.rounds for run in runs),
        round_ms=round_ms,
        bare_target_ms=bare[0].median_s(k + 1) * 1e3,
        bare_draft_ms=k * bare[1].median_s(1) * 1e3,
        parts_ms=parts,
        draft_parts_ms=draft_parts if k else {},
    )
