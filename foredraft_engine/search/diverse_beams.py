"""Diverse beam search: groups of beams, each penalised for the tokens that earlier groups chose.

Vijayakumar et al., "Diverse Beam Search", arXiv 1610.02424, with the Hamming penalty. The
arithmetic is that of transformers 4.55.4 (`_group_beam_search`, `BeamSearchScorer`), the last
version that has it, including its peculiarities. Only EOS ends a hypothesis, and a text that ended
with any EOS token gets the first one. A stop string or a length ends the whole search, once every
beam has met it.

This module knows nothing of models or rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from foredraft_engine.search.beams import Ends, Hypothesis, Move, shared_beginning
from foredraft_engine.transfer import to_host

_NEVER = -1e9  # the score of a beam that cannot be chosen, as in transformers

Process = Callable[[Sequence[tuple[int, ...]], Tensor], Tensor]
"""Applies logits processors to the log-probabilities after n generated texts, float32 [n, vocab];
returns scores of the same shape.
"""


@dataclass(frozen=True, slots=True)
class DiverseBeamSettings:
    """The parameters of one search. Lengths are in generated tokens.

    `num_beams` is a multiple of `num_beam_groups`.
    """

    num_beams: int
    num_beam_groups: int
    diversity_penalty: float
    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    """The token that a finished group goes on with. Later groups are penalised for it too, as in
    transformers, where it is the first EOS token if there is no padding token.
    """
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    @property
    def group_size(self) -> int:
        return self.num_beams // self.num_beam_groups


@dataclass(slots=True)
class _Group:
    """The beams of one group. The parents of its moves are indices within the group."""

    settings: DiverseBeamSettings
    texts: list[tuple[int, ...]] = field(init=False)
    ended: list[Hypothesis] = field(default_factory=list)
    """The best texts that have ended, in the order in which they ended, without their EOS."""
    over: bool = False
    _scores: list[float] = field(init=False)

    def __post_init__(self) -> None:
        size = self.settings.group_size
        self.texts = [()] * size
        # All beams begin as the same text: at first only one of them may go on.
        self._scores = [0.0] + [_NEVER] * (size - 1)

    def step(self, scores: Tensor) -> list[Move]:
        """Adds a token to every beam; scores are processed, float32 [group_size, vocab]."""
        settings, (size, vocab) = self.settings, scores.shape
        totals = (scores + torch.tensor(self._scores, device=scores.device)[:, None]).view(-1)
        keep = min(max(2, 1 + len(settings.eos_token_ids)) * size, size * vocab)
        ranked, places = (found.tolist() for found in to_host(totals.topk(keep)))
        length = len(self.texts[0]) + 1
        live: list[tuple[float, Move]] = []
        for rank, (score, place) in enumerate(zip(ranked, places, strict=True)):
            parent, token = divmod(place, vocab)
            if token not in settings.eos_token_ids:
                live.append((score, Move(parent, token)))
            elif rank < size:
                self.ended = self._with(self.ended, self.texts[parent], score, length)
            if len(live) == size:
                break
        self.texts = [(*self.texts[move.parent], move.token) for _, move in live]
        self._scores = [score for score, _ in live]
        self.over = self._cannot_improve(ranked[0], length)
        return [move for _, move in live]

    def pad(self) -> list[Move]:
        """Adds a padding token to every beam, once the group is over."""
        size, token = self.settings.group_size, self.settings.pad_token_id
        self.texts = [(*self.texts[0], token)] * size
        return [Move(0, token)] * size

    def all(self) -> list[Hypothesis]:
        """Returns the best texts, those that have not ended included unless the group is over."""
        found = self.ended
        if not self.over:
            for text, score in zip(self.texts, self._scores, strict=True):
                found = self._with(found, text, score, len(text))
        return found

    def _with(
        self, found: list[Hypothesis], text: tuple[int, ...], score: float, length: int
    ) -> list[Hypothesis]:
        """Returns the best `group_size` hypotheses among those found and one more text.

        Args:
            found: the hypotheses so far.
            text: without its EOS.
            score: the sum of the text's log-probabilities.
            length: of the text, its EOS included.
        """
        one = Hypothesis(text, score / length**self.settings.length_penalty)
        if len(found) < self.settings.group_size:
            return [*found, one]
        worst = min(found, key=lambda h: h.score)
        return [*(h for h in found if h is not worst), one] if one.score > worst.score else found

    def _cannot_improve(self, best: float, length: int) -> bool:
        """Returns whether enough texts have ended and no live beam can still beat them.

        This is an estimate, the same as in transformers.

        Args:
            best: the best summed score of this step.
            length: of the live beams.
        """
        settings = self.settings
        if len(self.ended) < settings.group_size or settings.early_stopping is True:
            return len(self.ended) == settings.group_size
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = settings.max_new_tokens
        attainable: float = best / length**settings.length_penalty
        return min(h.score for h in self.ended) >= attainable


@dataclass(slots=True)
class DiverseBeamSearch:
    """Diverse beam search over one prompt. A `foredraft_engine.search.beams.Search`."""

    settings: DiverseBeamSettings
    process: Process = lambda texts, scores: scores
    """Applies all processors but guidance, in their order. It is called for one group at a time,
    after the diversity penalty.
    """
    texts: list[tuple[int, ...]] = field(init=False)
    """The texts of the beams, group after group, the best of a group first. A group that is over
    goes on with padding.
    """
    done: bool = False
    _groups: list[_Group] = field(init=False)

    def __post_init__(self) -> None:
        self._groups = [_Group(self.settings) for _ in range(self.settings.num_beam_groups)]
        self.texts = [text for group in self._groups for text in group.texts]

    def step(self, log_probs: Tensor, ends: Ends) -> list[Move]:
        """Adds a token to every beam.

        Args:
            log_probs: the log-softmax of the logits after guidance and before any other processor,
                a row for each beam, float32 [num_beams, vocab]. The rows of a group that is over
                are ignored.
            ends: whether a text ends with its last token, by EOS or otherwise.

        Returns:
            The move of each beam, in their new order. A beam and its parent are of the same group.
        """
        moves: list[Move] = []
        for first, group in zip(
            range(0, len(log_probs), self.settings.group_size), self._groups, strict=True
        ):
            scores = log_probs[first : first + self.settings.group_size]
            found = (
                group.pad()
                if group.over
                else group.step(self.process(group.texts, self._diverse(scores, moves)))
            )
            moves += [Move(first + move.parent, move.token) for move in found]
        self.texts = [text for group in self._groups for text in group.texts]
        self.done = all(group.over for group in self._groups) or all(
            ends(text) for text in self.texts
        )
        return moves

    def best(self, count: int) -> list[Hypothesis]:
        """Returns the best texts of all groups, once the search is over."""
        return self._ranked([one for group in self._groups for one in group.all()])[:count]

    def shared(self, count: int) -> tuple[int, ...]:
        """Returns the common beginning of all texts that can still be among the `count` best."""
        if self.done:
            return shared_beginning([one.ids for one in self.best(count)])
        # A text that has ended is only ever displaced by a better one: if it is not among the best
        # now, it never will be.
        ended = self._ranked([one for group in self._groups for one in group.ended])[:count]
        live = [text for group in self._groups if not group.over for text in group.texts]
        return shared_beginning([one.ids for one in ended] + live)

    def _diverse(self, scores: Tensor, moves: list[Move]) -> Tensor:
        """Subtracts the penalty once for each beam of an earlier group that chose the token now."""
        if not moves:
            return scores
        tokens = torch.tensor([move.token for move in moves], device=scores.device)
        chosen = torch.zeros(scores.shape[-1], device=scores.device)
        chosen.index_add_(0, tokens, torch.ones_like(tokens, dtype=chosen.dtype))
        return scores - self.settings.diversity_penalty * chosen

    def _ranked(self, found: list[Hypothesis]) -> list[Hypothesis]:
        """Sorts hypotheses, the best first and the later of two equals first.

        Each gets an EOS if there is room for it.
        """
        room, eos = self.settings.max_new_tokens, self.settings.eos_token_ids[:1]
        ranked = sorted(found, key=lambda h: h.score)[::-1]
        return [Hypothesis(h.ids if len(h.ids) >= room else h.ids + eos, h.score) for h in ranked]
