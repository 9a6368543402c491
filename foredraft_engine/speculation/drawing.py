"""Draws the tokens of a draft, each with the row of q that it was drawn from.

Under the rejection rule the draft draws with its own random numbers; greedy and coupled tokens
are certain.

This module knows nothing of verification, or of whether a text is committed or a branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.processing import Processing, Scored
from foredraft_engine.logits.processors import Processors
from foredraft_engine.noise import Purpose, gumbel, key
from foredraft_engine.proposal import Proposal, SparseRows
from foredraft_engine.sampling import Rule
from foredraft_engine.speculation.preview import Chooser, Preview, candidates_of, likely
from foredraft_engine.speculation.ranking import Ranking
from foredraft_engine.transfer import HostArray, to_device, to_host

# The part of p that a narrowed row of q keeps.
_MASS = 0.999


@dataclass(frozen=True, slots=True)
class Draw:
    """A request for the token after a text."""

    processors: Processors
    context: Sequence[int]
    """The text."""
    key: int
    """The key of the random numbers under the rejection rule, see `draft_key`."""
    width: int
    """The largest number of entries in the row of q; 0 for the whole vocabulary."""
    ranked: bool = False
    """Whether other candidates are returned too. Under the rejection rule there are none."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn token."""

    token: int
    probability: float
    """The probability that it was drawn with."""
    row: SparseRows | None
    """The row of q that it was drawn from; None if the token was certain."""
    candidates: tuple[int, ...] = ()
    """The likely other tokens, the best first."""
    likelihoods: tuple[float, ...] = ()
    """The probabilities of the candidates, if the token is rejected."""


def draw(draws: Sequence[Draw], logits: Tensor) -> list[Drawn | None]:
    """Draws all tokens at once; logits float32 [n, vocab].

    Returns:
        The drawn tokens; None where the scores allow no token.
    """
    drawn: dict[int, Drawn | None] = {}
    for is_sampled, draw_all in ((False, _draw_certain), (True, _draw_sampled)):
        chosen = [
            i
            for i, one in enumerate(draws)
            if (one.processors.sampling.rule is Rule.REJECTION) is is_sampled
        ]
        if chosen:
            theirs = logits if len(chosen) == len(draws) else logits[chosen]
            drawn |= zip(chosen, draw_all([draws[i] for i in chosen], theirs), strict=True)
    return [drawn[i] for i in range(len(draws))]


def _draw_certain(draws: Sequence[Draw], logits: Tensor) -> list[Drawn | None]:
    """Takes the tokens that greedy decoding and the coupled rule are certain of."""
    processing, ranking = _processing(draws, logits)
    tensors = to_device([*processing.arrays, *ranking.arrays], logits.device)
    scores = processing.apply(logits, tensors[: len(processing.arrays)])
    ranked = ranking.apply(scores, tensors[len(processing.arrays) :])
    ids = ranked.argmax(dim=-1, keepdim=True)
    made = [ids[:, 0], scores.softmax(dim=-1).gather(1, ids)[:, 0]]
    if any(one.ranked for one in draws):
        made += likely(ranked, ids[:, 0])
    tokens, probabilities, *others = to_host(made)
    found = candidates_of(*others) if others else [((), ())] * len(draws)
    return [
        None
        if np.isnan(q)
        else Drawn(int(token), float(q), None, *(found[i] if draws[i].ranked else ((), ())))
        for i, (token, q) in enumerate(zip(tokens, probabilities, strict=True))
    ]


def _draw_sampled(draws: Sequence[Draw], logits: Tensor) -> list[Drawn | None]:
    """Draws tokens from the largest entries of p, which are then q."""
    vocab = logits.shape[1]
    width = min(max(one.width or vocab for one in draws), vocab)
    processing, _ = _processing(draws, logits)
    own = [
        np.array([[one.width or width] for one in draws], dtype=np.int64),
        np.array([one.key for one in draws], dtype=np.int64),
    ]
    limits, keys, *parameters = to_device([*own, *processing.arrays], logits.device)
    p = processing.apply(logits, parameters).softmax(dim=-1)
    q, tokens = p.topk(width, dim=-1)
    q = q.masked_fill(torch.arange(width, device=q.device) >= limits, 0.0)
    # The last thousandth of p takes half of the bytes. It is left out of rows that are narrower
    # than the vocabulary anyway.
    q = q.masked_fill((q.cumsum(dim=-1) - q > _MASS) & (limits < vocab), 0.0)
    q = q / q.sum(dim=-1, keepdim=True)
    place = (q.double().log() + gumbel(keys, width)).argmax(dim=-1, keepdim=True)
    made = [tokens.gather(1, place)[:, 0], q.gather(1, place)[:, 0], q, tokens]
    ids, probabilities, rows_q, rows_ids = to_host(made)
    return [
        None if np.isnan(drawn) else Drawn(int(token), float(drawn), _row(*row))
        for token, drawn, *row in zip(ids, probabilities, rows_q, rows_ids, strict=True)
    ]


def _row(q: HostArray, ids: HostArray) -> SparseRows:
    """Returns the entries of q that are not 0."""
    kept = q > 0
    return SparseRows(ids[kept].astype(np.uint32), q[kept], (int(kept.sum()),))


def _processing(draws: Sequence[Draw], logits: Tensor) -> tuple[Processing, Ranking]:
    scored = [Scored(one.processors, one.context, 1) for one in draws]
    return Processing(scored, logits.shape[1]), Ranking(scored)


def ends_proposal(drawn: Drawn, processors: Processors, confidence: float) -> bool:
    """Returns whether a proposal is complete with this token.

    A proposal ends after a token, never by taking one back: dropping a drawn token because it is
    unlikely would bias the output.
    """
    return drawn.probability < confidence or drawn.token in processors.sampling.eos_token_id


def proposal_of(
    drawn: Sequence[Drawn], choose: Chooser | None = None, alternatives: int = 0
) -> Proposal:
    """Makes drawn tokens a proposal.

    Args:
        drawn: the tokens.
        choose: chooses the alternatives among the candidates of each token.
        alternatives: the largest number of alternatives. Under the rejection rule there are none.
    """
    rows = [d.row for d in drawn if d.row is not None]
    ids = tuple(d.token for d in drawn)
    chosen: tuple[tuple[int, int], ...] = ()
    if choose and alternatives and not rows:
        preview = Preview(
            tuple(d.probability for d in drawn),
            tuple(d.candidates for d in drawn),
            tuple(d.likelihoods for d in drawn),
            ids,
        )
        chosen = tuple(
            (at, preview.candidates[at][rank]) for at, rank in choose(preview, alternatives)
        )
    return Proposal(ids, SparseRows.join(rows) if rows else None, "model", chosen)


def draft_key(processors: Processors, epoch: int, base_len: int, index: int) -> int:
    """Returns the key of the draw at `index` after `base_len` committed tokens.

    The epoch makes the draws of a draft differ from those of the lost draft that it replaces.
    """
    sampling = processors.sampling
    return key(sampling.seed, Purpose.DRAFT, sampling.sequence_index, epoch, base_len, index)
