"""Beam search: which beams go on, which have ended, and when the search is over.

The arithmetic is transformers' own (`GenerationMixin._beam_search`), in float32 and in the same
order, so that tokens and scores are equal.

This module knows nothing of models or rows: it turns log-probabilities into moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from foredraft_engine.transfer import to_host

_NEVER = -1e9  # the score of a beam that cannot be chosen, as in transformers

Ends = Callable[[tuple[int, ...]], bool]
"""Returns whether a text ends with its last token: by EOS, a stop string or its length."""


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """The parameters of one search. Lengths are in generated tokens."""

    num_beams: int
    max_new_tokens: int
    num_eos: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text and its score.

    The score is the sum of the log-probabilities, divided by length ** length_penalty.
    """

    ids: tuple[int, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Move:
    """How a beam goes on."""

    parent: int
    """The index of the previous beam that it continues."""
    token: int
    """The token that it adds."""


class Search(Protocol):
    """The interface of a search, for the strategy that runs it."""

    texts: list[tuple[int, ...]]
    done: bool

    def step(self, log_probs: Tensor, ends: Ends) -> list[Move]: ...

    def best(self, count: int) -> list[Hypothesis]: ...

    def shared(self, count: int) -> tuple[int, ...]: ...


def shared_beginning(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the longest common beginning of all texts; empty if there are no texts."""
    first, last = min(texts, default=()), max(texts, default=())
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return first[:length]


@dataclass(slots=True)
class BeamSearch:
    """Beam search over one prompt. A `Search`."""

    settings: BeamSettings
    texts: list[tuple[int, ...]] = field(default_factory=list)
    """The texts of the live beams, the best first."""
    done: bool = False
    _scores: Tensor = field(init=False)
    _ended: list[tuple[int, ...]] = field(init=False)
    _ended_scores: Tensor = field(init=False)
    _has_ended: Tensor = field(init=False)
    _can_improve: bool = True

    def __post_init__(self) -> None:
        n = self.settings.num_beams
        self.texts, self._ended = [()] * n, [()] * n
        # All beams begin as the same text: at first only one of them may go on.
        self._scores = torch.tensor([0.0] + [_NEVER] * (n - 1))
        self._ended_scores = torch.full((n,), _NEVER)
        self._has_ended = torch.zeros(n, dtype=torch.bool)

    def step(self, log_probs: Tensor, ends: Ends, noise: Tensor | None = None) -> list[Move]:
        """Adds a token to every beam.

        Args:
            log_probs: processed, a row for each live beam, float32 [num_beams, vocab].
            ends: whether a text ends with its last token.
            noise: Gumbel noise, [num_beams, vocab]. With it continuations are sampled without
                replacement (Kool et al., arXiv 1903.06059), by the law of `torch.multinomial` on
                the summed scores; without it the best are chosen.

        Returns:
            The move of each live beam, in their new order.
        """
        n, vocab = log_probs.shape
        totals = (log_probs + self._scores[:, None].to(log_probs.device)).view(-1)
        keep = min(max(2, 1 + self.settings.num_eos) * n, n * vocab)
        ranked = totals if noise is None else totals.double() + noise.view(-1)
        places = ranked.topk(keep).indices
        scores, places = map(torch.tensor, to_host([totals[places], places]))
        moves = [Move(place // vocab, place % vocab) for place in places.tolist()]
        texts = [(*self.texts[m.parent], m.token) for m in moves]
        ended = torch.tensor([ends(text) for text in texts])
        self._keep_ended(texts, scores, ended)
        live = scores + ended.float() * _NEVER
        chosen = live.topk(n).indices
        self.texts, self._scores = [texts[i] for i in chosen.tolist()], live[chosen]
        self._can_improve = self._can_improve and self._can_beat_ended()
        full = bool(self._has_ended.all()) and self.settings.early_stopping is True
        self.done = not self._can_improve or full or bool(ended.all())
        return [moves[i] for i in chosen.tolist()]

    def best(self, count: int) -> list[Hypothesis]:
        """Returns the best texts that have ended, once the search is over."""
        scores = self._ended_scores.tolist()
        return [
            Hypothesis(text, score)
            for text, score in zip(self._ended[:count], scores, strict=False)
        ]

    def shared(self, count: int) -> tuple[int, ...]:
        """Returns the common beginning of all texts that can still be among the `count` best."""
        texts = [
            text
            for text, has in zip(self._ended[:count], self._has_ended.tolist(), strict=False)
            if has
        ]
        return shared_beginning(texts if self.done else texts + self.texts)

    def _keep_ended(self, texts: list[tuple[int, ...]], scores: Tensor, ended: Tensor) -> None:
        """Keeps the best of all texts that have ended so far.

        A text counts only if it ended among the best `num_beams` continuations.
        """
        n, settings = self.settings.num_beams, self.settings
        just = ended & (torch.arange(len(texts)) < n)
        scores = scores / (len(texts[0]) ** settings.length_penalty)
        full = bool(self._has_ended.all()) and settings.early_stopping is True
        for hopeless in (torch.tensor(full), torch.tensor(not self._can_improve), ~just):
            scores = scores + hopeless.float() * _NEVER
        merged = torch.cat([self._ended_scores, scores])
        best = merged.topk(n).indices
        all_texts = [*self._ended, *texts]
        self._ended = [all_texts[i] for i in best.tolist()]
        self._ended_scores, self._has_ended = merged[best], torch.cat([self._has_ended, just])[best]

    def _can_beat_ended(self) -> bool:
        """Returns whether the best live beam can still beat the worst text that has ended.

        This is an estimate, the same as in transformers.
        """
        settings, length = self.settings, len(self.texts[0])
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = settings.max_new_tokens
        best = self._scores[0] / (length**settings.length_penalty)
        worst = torch.where(self._has_ended, self._ended_scores.min(), torch.tensor(_NEVER))
        return bool((best > worst).any())
