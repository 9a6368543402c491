"""Draws the tokens of several passes, each of which feeds what the one before it drew.

The numbers of all passes move to the device in one copy, and what they drew moves back in one: in
between the device does not wait for the host. The passes after a token that ends its text are in
vain, and what they drew is for the caller to cut.

This module knows nothing of jobs, or of proposals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass
from foredraft_engine.speculation.drawing import Draw, Drawing, Drawn
from foredraft_engine.transfer import HostArray, groups_to_device, to_host

Prepare = Callable[[Sequence[Feed], Sequence[int]], ForwardPass]
"""Prepares a pass over feeds, of each of which some last tokens are scored."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What one row draws in a pass that is over, and in those that follow on it."""

    draws: Sequence[Sequence[Draw]]
    """The draws after the scored tokens of each pass, equally many in all passes."""
    feeds: Sequence[Feed] = ()
    """The feed of each pass but the first. Its ids are the tokens that the pass before drew."""


@dataclass(frozen=True, slots=True)
class _Link:
    """One pass of all chains that reach it."""

    drawing: Drawing
    forward: ForwardPass | None = None  # None if it is over
    going_on: tuple[HostArray, ...] = ()  # the draws of the pass before that it feeds, if not all

    @property
    def groups(self) -> list[Sequence[HostArray]]:
        return [self.drawing.arrays, self.forward.arrays if self.forward else (), self.going_on]


def draw_chains(
    chains: Sequence[Chain], logits: Tensor, prepare: Prepare | None
) -> list[list[list[Drawn | None]]]:
    """Draws the tokens of all chains.

    Args:
        chains: in the order of their rows.
        logits: of the pass that is over, float32 [n, vocab], chain after chain.
        prepare: prepares the passes that follow, if there are any.

    Returns:
        For each chain and each of its passes the drawn tokens; None where the scores allow no
        token.
    """
    first = Drawing([one for chain in chains for one in chain.draws[0]], logits.shape[1])
    links = [_Link(first)]
    if prepare:
        for at in range(1, max(len(chain.draws) for chain in chains)):
            links.append(_link(chains, at, logits.shape[1], prepare))
    tensors = iter(groups_to_device([g for link in links for g in link.groups], logits.device))
    made: list[Tensor] = []
    ids: Tensor | None = None
    for link in links:
        of_drawing, of_forward, going_on = next(tensors), next(tensors), next(tensors)
        if link.forward and ids is not None:
            fed = ids.index_select(0, going_on[0]) if going_on else ids
            logits = link.forward.run(of_forward, fed)
        ids, drawn = link.drawing.apply(logits, of_drawing)
        made += drawn
    arrays = iter(to_host(made))
    results: list[list[list[Drawn | None]]] = [[] for _ in chains]
    for at, link in enumerate(links):
        read = iter(link.drawing.read(arrays))
        for chain, result in zip(chains, results, strict=True):
            if at < len(chain.draws):
                result.append([next(read) for _ in chain.draws[at]])
    return results


def _link(chains: Sequence[Chain], at: int, vocab: int, prepare: Prepare) -> _Link:
    """Returns the pass at an index after the first."""
    before = [chain for chain in chains if len(chain.draws) >= at]
    reaching = [chain for chain in before if len(chain.draws) > at]
    feeds = [chain.feeds[at - 1] for chain in reaching]
    going_on = np.repeat(
        [len(chain.draws) > at for chain in before], [len(chain.draws[0]) for chain in before]
    )
    return _Link(
        Drawing([one for chain in reaching for one in chain.draws[at]], vocab),
        prepare(feeds, [len(feed.ids) for feed in feeds]),
        () if going_on.all() else (np.flatnonzero(going_on),),
    )
