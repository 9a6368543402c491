"""Draws a draft's tokens: the next one after each of many texts, and the row of q that it was drawn
from.

The draws of the rejection rule are the draft's own; greedy and coupled tokens are certain. Knows
nothing of verification, or of whether a text is committed or a branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.processors import Processors, Scored, process
from foredraft_engine.noise import KeptGumbel, Purpose, gumbel, key
from foredraft_engine.proposal import Proposal, SparseRows
from foredraft_engine.sampling import Rule
from foredraft_engine.speculation.preview import Chooser, Preview, likely

_MASS = 0.999


@dataclass(frozen=True, slots=True)
class Draw:
    """Wants the token after a text."""

    processors: Processors
    context: Sequence[int]
    key: int
    """Of its random numbers, under the rejection rule: see `draft_key`."""
    width: int
    """Entries of the row of q, at most; 0 is the whole vocabulary."""
    ranked: bool = False
    """Whether candidates besides the token are wanted; there are none under the rejection rule."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token, the probability that it had, and the row of q under the rejection rule."""

    token: int
    probability: float
    row: SparseRows | None
    candidates: tuple[int, ...] = ()
    likelihoods: tuple[float, ...] = ()


def draw(draws: Sequence[Draw], logits: Tensor) -> list[Drawn]:
    """All of them at once; logits float32 [n, vocab]."""
    scored = [Scored(d.processors, d.context, 1) for d in draws]
    scores = process(scored, logits)
    p = scores.softmax(dim=-1)
    sampled = [i for i, d in enumerate(draws) if d.processors.sampling.rule is Rule.REJECTION]
    certain = [i for i, d in enumerate(draws) if d.processors.sampling.rule is not Rule.REJECTION]
    ids = torch.empty(len(draws), dtype=torch.long, device=logits.device)
    others: dict[int, tuple[tuple[int, ...], tuple[float, ...]]] = {}
    if certain:
        ranked = by_rank(
            scores[certain] if sampled else scores, rows_of([scored[i] for i in certain])
        )
        ids[certain] = best = ranked.argmax(dim=-1)
        wanted = [at for at, i in enumerate(certain) if draws[i].ranked]
        if wanted:
            others = dict(
                zip(
                    [certain[at] for at in wanted],
                    likely(ranked[wanted], best[wanted]),
                    strict=True,
                )
            )
    rows: dict[int, SparseRows] = {}
    if sampled:
        ids[sampled], p_drawn, sparse = _sample([draws[i] for i in sampled], p[sampled])
        p[sampled, ids[sampled]] = p_drawn  # the probability it was drawn with
        rows = dict(zip(sampled, sparse, strict=True))
    drawn = zip(ids.tolist(), p.gather(1, ids[:, None])[:, 0].tolist(), strict=True)
    return [
        Drawn(token, q, rows.get(i), *others.get(i, ((), ()))) for i, (token, q) in enumerate(drawn)
    ]


def _sample(draws: Sequence[Draw], p: Tensor) -> tuple[Tensor, Tensor, list[SparseRows]]:
    """Ids [n] drawn from the largest entries of p [n, vocab], with what probability [n], and these
    entries.
    """
    device = p.device
    width = min(max(d.width or p.shape[1] for d in draws), p.shape[1])
    q, tokens = p.topk(width, dim=-1)
    limits = torch.tensor([d.width or width for d in draws], device=device)
    q = q.masked_fill(torch.arange(width, device=device) >= limits[:, None], 0.0)
    # The last thousandth of p is half of the bytes: it is left out where a row was to be narrower
    # than p anyway.
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
    """Whether a proposal is complete with this token.

    It ends after a token, never by taking one back: a drawn token that is dropped for being
    unlikely would bias what the target accepts.
    """
    return drawn.probability < confidence or drawn.token in processors.sampling.eos_token_id


def proposal_of(
    drawn: Sequence[Drawn], choose: Chooser | None = None, alternatives: int = 0
) -> Proposal:
    """The tokens with their rows of q, if they have such, and with so many alternatives, if there
    are candidates.
    """
    rows = [d.row for d in drawn if d.row is not None]
    ids = tuple(d.token for d in drawn)
    beside: tuple[tuple[int, int], ...] = ()
    if choose and alternatives and not rows:
        preview = Preview(
            tuple(d.probability for d in drawn),
            tuple(d.candidates for d in drawn),
            tuple(d.likelihoods for d in drawn),
            ids,
        )
        beside = tuple(
            (at, preview.candidates[at][rank]) for at, rank in choose(preview, alternatives)
        )
    return Proposal(ids, SparseRows.join(rows) if rows else None, "model", beside)


def draft_key(processors: Processors, epoch: int, base_len: int, index: int) -> int:
    """Of the draw of the token at `index` after a text of `base_len` tokens.

    The epoch parts the draws of a draft that was lost from those of the one that replaced it.
    """
    sampling = processors.sampling
    return key(sampling.seed, Purpose.DRAFT, sampling.sequence_index, epoch, base_len, index)


def certain_ids(scores: Tensor, scored: Sequence[Scored]) -> Tensor:
    """argmax(scores), with the shared noise added where the rule is coupled. int64 [n]."""
    return by_rank(scores, rows_of(scored)).argmax(dim=-1)


def rows_of(scored: Sequence[Scored]) -> list[tuple[Scored, int]]:
    """Each row's sequence, and the position of the token that it scores."""
    return [(s, len(s.tokens) - s.count + 1 + i) for s in scored for i in range(s.count)]


def by_rank(scores: Tensor, rows: Sequence[tuple[Scored, int]]) -> Tensor:
    """Scores [n, vocab] of sequences at positions, by which their tokens are chosen with certainty.

    Under the coupled rule that is with the shared noise, in float64: the draft foresees the
    target's token.
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
