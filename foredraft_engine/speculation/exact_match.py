"""Verification where the target's token at each position is certain, whatever is proposed.

Under greedy decoding and the coupled rule p is one-hot, and the rule of
`foredraft_engine.speculation.acceptance` accepts a proposed token if and only if it is the target's
own. Alternatives are possible for the same reason.

Under the rejection rule this holds where nothing was drawn, so that q is one-hot. A proposed token
x is then accepted with probability p(x), as the rule demands, if the target draws its own tokens as
in plain decoding and compares them. The text is that of plain decoding with the same seed. A
position whose scores allow no token ends a round before it; a round that begins with such a
position has no decision.
"""

from collections.abc import Sequence

from torch import Tensor

from foredraft_engine.logits.processing import Processing
from foredraft_engine.logits.validity import NO_TOKEN
from foredraft_engine.proposal import Proposal
from foredraft_engine.speculation.ranking import OWN, Ranking
from foredraft_engine.speculation.round import Decision, Round
from foredraft_engine.transfer import to_device


def match_exactly(rounds: Sequence[Round], logits: Tensor) -> list[Decision | None]:
    """Verifies proposals by exact match; logits float32 [sum(scored), vocab].

    Returns:
        For each round its decision; None if its first scores allow no token.
    """
    scored = [text for one in rounds for text in one.scored_texts]
    processing, ranking = Processing(scored, logits.shape[1]), Ranking(scored, OWN)
    # The step's one copy to the device.
    tensors = to_device([*processing.arrays, *ranking.arrays], logits.device)
    scores = processing.apply(logits, tensors[: len(processing.arrays)])
    ranked = ranking.apply(scores, tensors[len(processing.arrays) :])
    ids = ranked.argmax(dim=-1, keepdim=True)  # a NaN counts as the largest
    ids = ids.masked_fill(~ranked.gather(1, ids).isfinite(), NO_TOKEN)
    own = ids[:, 0].tolist()  # the step's one transfer to the host
    decisions: list[Decision | None] = []
    offset = 0
    for one in rounds:
        decisions.append(_match(one.proposal, own[offset : offset + one.scored]))
        offset += one.scored
    return decisions


def _match(proposal: Proposal, own: Sequence[int]) -> Decision | None:
    """Accepts proposed tokens up to the first that differs from the target's own.

    If the target's own token is an alternative there, the round goes on with it.
    """
    proposed, at = proposal.ids, 0
    while at < len(proposed) and proposed[at] == own[at]:
        at += 1
    if own[at] == NO_TOKEN:
        return Decision(tuple(own[:at]), range(at)) if at else None
    if (at, own[at]) not in proposal.alternatives:
        return Decision(tuple(own[: at + 1]), range(at + 1))
    row = len(proposed) + 1 + proposal.alternatives.index((at, own[at]))
    if own[row] == NO_TOKEN:
        return Decision(tuple(own[: at + 1]), range(at + 1))
    return Decision((*own[: at + 1], own[row]), [*range(at + 1), row], used_alternative=True)
