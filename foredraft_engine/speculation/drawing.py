"""Draws the tokens of a draft, each with the row of q that it was drawn from.

Under the rejection rule the draft draws with its own random numbers; greedy and coupled tokens
are certain.

This module knows nothing of verification, or of whether a text is committed or a branch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.processing import Processing, Scored
from foredraft_engine.logits.processors import Processors
from foredraft_engine.noise import Purpose, gumbel, key
from foredraft_engine.proposal import Proposal, SparseRows
from foredraft_engine.sampling import Rule
from foredraft_engine.speculation.preview import (
    Candidates,
    Chooser,
    Preview,
    candidates_of,
    likely,
)
from foredraft_engine.speculation.ranking import Ranking
from foredraft_engine.transfer import HostArray

# The part of p that a narrowed row of q keeps.
_MASS = 0.999


@dataclass(frozen=True, slots=True)
class Draw:
    """A request for the token after a text."""

    processors: Processors
    context: Sequence[int]
    """The text. Its ids may be unread if the processors do not read them."""
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


class Drawing:
    """The draws of one pass, whose numbers move together with those of others.

    The caller moves `arrays` and gives them to `apply` as tensors. What that makes goes back to the
    host, together with what other passes made, and to `read`.
    """

    def __init__(self, draws: Sequence[Draw], vocab: int) -> None:
        """
        Args:
            vocab: the number of scores in a row.
        """
        is_sampled = [one.processors.sampling.rule is Rule.REJECTION for one in draws]
        certain, sampled = (
            [i for i, s in enumerate(is_sampled) if s is kind] for kind in (False, True)
        )
        self._parts: list[_Certain | _Sampled] = []
        if certain:
            self._parts.append(_Certain([draws[i] for i in certain], vocab))
        if sampled:
            self._parts.append(_Sampled([draws[i] for i in sampled], vocab))
        chosen, self._sizes = [*certain, *sampled], [len(certain), len(sampled)]
        self._order = np.argsort(chosen)  # the place of each draw among the parts
        # Rows are sorted by their rules only if these are mixed.
        self._sorting = (
            [np.array(chosen, dtype=np.int64), self._order] if len(self._parts) > 1 else []
        )

    @property
    def arrays(self) -> list[HostArray]:
        """The numbers on the host."""
        return [*self._sorting, *(array for part in self._parts for array in part.arrays)]

    def apply(self, logits: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Draws all tokens at once.

        Args:
            logits: float32 [n, vocab].
            tensors: `arrays` on the device.

        Returns:
            The tokens, int64 [n], and what `read` needs. A token is arbitrary where the scores
            allow none.
        """
        if not self._sorting:
            made = self._parts[0].apply(logits, tensors)
            return made[0], made
        chosen, order, *rest = tensors
        moved, sorted_logits = iter(rest), logits.index_select(0, chosen).split(self._sizes)
        each = [
            part.apply(its_logits, list(islice(moved, len(part.arrays))))
            for part, its_logits in zip(self._parts, sorted_logits, strict=True)
        ]
        ids = torch.cat([made[0] for made in each]).index_select(0, order)
        return ids, [tensor for made in each for tensor in made]

    def read(self, arrays: Iterator[HostArray]) -> list[Drawn | None]:
        """Returns the drawn tokens; None where the scores allow no token.

        Args:
            arrays: begins with what `apply` made.
        """
        drawn = [one for part in self._parts for one in part.read(arrays)]
        return [drawn[at] for at in self._order]


class _Certain:
    """The tokens that greedy decoding and the coupled rule are certain of."""

    def __init__(self, draws: Sequence[Draw], vocab: int) -> None:
        scored = [Scored(one.processors, one.context, 1) for one in draws]
        self._draws = draws
        self._processing, self._ranking = Processing(scored, vocab), Ranking(scored)
        self._is_ranked = any(one.ranked for one in draws)
        self.arrays = [*self._processing.arrays, *self._ranking.arrays]

    def apply(self, logits: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
        own = len(self._processing.arrays)
        scores = self._processing.apply(logits, tensors[:own])
        ranked = self._ranking.apply(scores, tensors[own:])
        ids = ranked.argmax(dim=-1, keepdim=True)
        made = [ids[:, 0], scores.softmax(dim=-1).gather(1, ids)[:, 0]]
        return [*made, *likely(ranked, ids[:, 0])] if self._is_ranked else made

    def read(self, arrays: Iterator[HostArray]) -> list[Drawn | None]:
        tokens, probabilities = next(arrays), next(arrays)
        none: Candidates = ((), ())
        found = [none] * len(self._draws)
        if self._is_ranked:
            candidates = candidates_of(next(arrays), next(arrays))
            found = [c if d.ranked else none for d, c in zip(self._draws, candidates, strict=True)]
        return [
            None if np.isnan(q) else Drawn(int(token), float(q), None, *others)
            for token, q, others in zip(tokens, probabilities, found, strict=True)
        ]


class _Sampled:
    """Tokens that are drawn from the largest entries of p, which are then q."""

    def __init__(self, draws: Sequence[Draw], vocab: int) -> None:
        self._width = min(max(one.width or vocab for one in draws), vocab)
        scored = [Scored(one.processors, one.context, 1) for one in draws]
        self._processing = Processing(scored, vocab)
        limits = np.array([[one.width or self._width] for one in draws], dtype=np.int64)
        keys = np.array([one.key for one in draws], dtype=np.int64)
        self.arrays = [limits, keys, *self._processing.arrays]

    def apply(self, logits: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
        vocab, width = logits.shape[1], self._width
        limits, keys, *parameters = tensors
        p = self._processing.apply(logits, parameters).softmax(dim=-1)
        q, tokens = p.topk(width, dim=-1)
        q = q.masked_fill(torch.arange(width, device=q.device) >= limits, 0.0)
        # The last thousandth of p takes half of the bytes. It is left out of rows that are narrower
        # than the vocabulary anyway.
        q = q.masked_fill((q.cumsum(dim=-1) - q > _MASS) & (limits < vocab), 0.0)
        q = q / q.sum(dim=-1, keepdim=True)
        place = (q.double().log() + gumbel(keys, width)).argmax(dim=-1, keepdim=True)
        return [tokens.gather(1, place)[:, 0], q.gather(1, place)[:, 0], q, tokens]

    def read(self, arrays: Iterator[HostArray]) -> list[Drawn | None]:
        return [
            None if np.isnan(drawn) else Drawn(int(token), float(drawn), _row(*row))
            for token, drawn, *row in zip(*islice(arrays, 4), strict=True)
        ]


def _row(q: HostArray, ids: HostArray) -> SparseRows:
    """Returns the entries of q that are not 0."""
    kept = q > 0
    return SparseRows(ids[kept].astype(np.uint32), q[kept], (int(kept.sum()),))


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
