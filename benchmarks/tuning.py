"""Finds every rival's best options, by the same prompts and the same measure.

This module knows nothing of who they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.contestants import Rival
from benchmarks.runs import Assist, Prompt, Sampling


@dataclass(frozen=True, slots=True)
class Lane:
    """A rival with the options that it runs with."""

    rival: Rival
    assist: Assist
    tried: tuple[tuple[str, float], ...] = ()
    """The options that were tried, with their tokens/s."""


def tune(rival: Rival, prompts: Sequence[Prompt], sampling: Sampling) -> Lane:
    """Returns the options with the most tokens per second over all prompts together, after the
    first tokens.

    All options take turns at every prompt, so that a slow moment of the machine meets them all.
    """
    if len(rival.grid) == 1:
        return Lane(rival, rival.grid[0])
    tokens, spent_s = dict.fromkeys(rival.grid, 0), dict.fromkeys(rival.grid, 0.0)
    for number, prompt in enumerate(prompts):
        for assist in rival.grid:
            run = rival.generator.generate(prompt, assist, replace(sampling, seed=number))
            tokens[assist] += run.later_tokens
            spent_s[assist] += run.later_s
    rates = {assist: tokens[assist] / spent_s[assist] for assist in rival.grid}
    best = max(rival.grid, key=lambda assist: rates[assist])
    return Lane(rival, best, tuple((str(assist), rate) for assist, rate in rates.items()))
