"""Lets all lanes generate side by side: every prompt, every repetition, in an order that rotates.

This module knows nothing of what the figures mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.bare import BareTimes
from benchmarks.runs import Prompt, Run, Sampling
from benchmarks.tuning import Lane


@dataclass(frozen=True, slots=True)
class Heat:
    """One prompt of one repetition: a run of every lane, in the order of the lanes."""

    prompt: str
    repetition: int
    runs: tuple[Run, ...]


def race(
    lanes: Sequence[Lane],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    repetitions: range,
    bare: BareTimes,
    progress: Callable[[str], None],
) -> list[Heat]:
    """Runs all lanes and times bare forward passes in between, on the machine in the same state."""
    heats: list[Heat] = []
    for repetition in repetitions:
        for prompt in prompts:
            seeded = replace(sampling, seed=1000 + len(heats))
            runs: dict[int, Run] = {}
            for turn in range(len(lanes)):
                at = (turn + len(heats)) % len(lanes)
                lane = lanes[at]
                runs[at] = lane.rival.generator.generate(prompt, lane.assist, seeded)
            bare.measure()
            heats.append(Heat(prompt.name, repetition, tuple(runs[at] for at in range(len(lanes)))))
        progress(f"temperature {sampling.temperature:g}: repetition {repetition + 1} done")
    return heats
