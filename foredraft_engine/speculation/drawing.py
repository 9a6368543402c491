"""Draws the tokens of a draft, each with the row of q that it was drawn from.

Under the rejection rule the draft draws with its own random numbers; greedy and coupled tokens
are certain.

This module knows nothing of verification, or of whether a text is committed or a branch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.processing import Scored, process
from foredraft_engine.logits.processors import Processors
from foredraft_engine.logits.validity import NO_TOKEN
from foredraft_engine.noise import KeptGumbel, Purpose, gumbel, key
from foredraft_engine.proposal import Proposal, SparseRows
from foredraft_engine.sampling import Rule
from foredraft_engine.speculation.preview import (
    Candidates,
    Chooser,
    Preview,
    likely_candidates,
)

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
    scored = [Scored(d.processors, d.context, 1) for d in draws]
    scores = process(scored, logits)
    p = scores.softmax(dim=-1)
    sampled = [i for i, d in enumerate(draws) if d.processors.sampling.rule is Rule.REJECTION]
    certain = [i for i, d in enumerate(draws) if d.processors.sampling.rule is not Rule.REJECTION]
    ids = torch.empty(len(draws), dtype=torch.long, device=logits.device)
    others: dict[int, Candidates] = {}
    if certain:
        ranked = ranking_scores(
            scores[certain] if sampled else scores, scored_positions([scored[i] for i in certain])
        )
        ids[certain] = best = ranked.argmax(dim=-1)
        wanted = [at for at, i in enumerate(certain) if draws[i].ranked]
        if wanted:
            found = likely_candidates(ranked[wanted], best[wanted])
            others = dict(zip([certain[at] for at in wanted], found, strict=True))
    rows: dict[int, SparseRows] = {}
    if sampled:
        ids[sampled], p_drawn, sparse = _sample([draws[i] for i in sampled], p[sampled])
        p[sampled, ids[sampled]] = p_drawn  # the probability it was drawn with
        rows = dict(zip(sampled, sparse, strict=True))
    drawn = zip(ids.tolist(), p.gather(1, ids[:, None])[:, 0].tolist(), strict=True)
    return [
        None if math.isnan(q) else Drawn(token, q, rows.get(i), *others.get(i, ((), ())))
        for i, (token, q) in enumerate(drawn)
    ]


def _sample(draws: Sequence[Draw], p: Tensor) -> tuple[Tensor, Tensor, list[SparseRows]]:
    """Draws tokens from the largest entries of p, [n, vocab].

    Returns:
        The ids, int64 [n], their probabilities among these entries, [n], and the entries.
    """
    device = p.device
    width = min(max(d.width or p.shape[1] for d in draws), p.shape[1])
    q, tokens = p.topk(width, dim=-1)
    limits = torch.tensor([d.width or width for d in draws], device=device)
    q = q.masked_fill(torch.arange(width, device=device) >= limits[:, None], 0.0)
    # The last thousandth of p takes half of the bytes. It is left out of rows that are narrower
    # than the vocabulary anyway.
    narrow = limits < p.shape[1]
    q = q.masked_fill((q.cumsum(dim=-1) - q > _MASS) & narrow[:, None], 0.0)
    q = q / q.sum(dim=-1, keepdim=True)
    noise = gumbel(torch.tensor([d.key for d in draws], device=device), width)
    place = (q.double().log() + noise).argmax(dim=-1, keepdim=True)
    host_q, host_tokens = q.cpu().numpy(), tokens.cpu().numpy()
    rows = []
    for row_q, row_tokens in zip(host_q, host_tokens, strict=True):
        keep = row_q > 0
        kept = row_tokens[keep].astype(np.uint32)
        rows.append(SparseRows(kept, row_q[keep], (len(kept),)))
    return tokens.gather(1, place)[:, 0], q.gather(1, place)[:, 0], rows


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


def certain_ids(scores: Tensor, scored: Sequence[Scored]) -> Tensor:
    """Returns the token that each position chooses with certainty, int64 [n]; -1 if there is none.

    It has the largest score, under the coupled rule after the shared noise is added.
    """
    ranked = ranking_scores(scores, scored_positions(scored))
    ids = ranked.argmax(dim=-1, keepdim=True)  # a NaN counts as the largest
    return ids.masked_fill(~ranked.gather(1, ids).isfinite(), NO_TOKEN)[:, 0]


def scored_positions(scored: Sequence[Scored]) -> list[tuple[Scored, int]]:
    """Returns for each row its sequence and the position of the token that it scores."""
    return [(s, len(s.tokens) - s.count + 1 + i) for s in scored for i in range(s.count)]


def ranking_scores(scores: Tensor, rows: Sequence[tuple[Scored, int]]) -> Tensor:
    """Returns scores whose largest is the token chosen with certainty, [n, vocab].

    Under the coupled rule they include the shared noise, in float64, so that the draft predicts the
    target's token.

    Args:
        scores: processed scores, float32 [n, vocab].
        rows: the sequence and the position of each row.
    """
    coupled = [i for i, (s, _) in enumerate(rows) if s.processors.sampling.rule is Rule.COUPLED]
    if not coupled:
        return scores
    wanted = [(rows[i][0].processors.noise, _coupled_key(*rows[i])) for i in coupled]
    noise = KeptGumbel.rows(wanted, scores.shape[1], scores.device)
    if len(coupled) == len(rows):
        return noise.add_(scores)
    ranked = scores.double()
    ranked[coupled] += noise
    return ranked


def _coupled_key(scored: Scored, position: int) -> int:
    sampling = scored.processors.sampling
    return key(sampling.seed, Purpose.COUPLED, sampling.sequence_index, position)
