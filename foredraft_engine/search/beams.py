"""Beam search: which beams live, which have ended, and when it is over. One search, one step at a
time.

The arithmetic is transformers' own (`GenerationMixin._beam_search`), in float32 and in its order,
so that tokens and scores are equal. Knows nothing of models or rows: it is given log-probabilities
and says which beam goes on where.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

_NEVER = -1e9  # the score of what cannot be chosen; transformers' own

Ends = Callable[[tuple[int, ...]], bool]
"""Whether a generated text ends with its last token: by EOS, by a stop string, by its length."""


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """Of one search; lengths are of generated tokens."""

    num_beams: int
    max_new_tokens: int
    num_eos: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text and its score, the sum of its log-probabilities by its length to the power of the
    length penalty.
    """

    ids: tuple[int, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Move:
    """How a beam goes on: after which of the beams before, and with which token."""

    parent: int
    token: int


class Search(Protocol):
    """What drives a search needs to know of it."""

    texts: list[tuple[int, ...]]
    done: bool

    def step(self, log_probs: Tensor, ends: Ends) -> list[Move]: ...

    def best(self, count: int) -> list[Hypothesis]: ...

    def shared(self, count: int) -> tuple[int, ...]: ...


def shared_beginning(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest that all texts begin with; nothing if there are none."""
    first, last = min(texts, default=()), max(texts, default=())
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return first[:length]


@dataclass(slots=True)
class BeamSearch:
    """The beams of one prompt."""

    settings: BeamSettings
    texts: list[tuple[int, ...]] = field(default_factory=list)
    """Of the live beams, the best first."""
    done: bool = False
    _scores: Tensor = field(init=False)
    _ended: list[tuple[int, ...]] = field(init=False)
    _ended_scores: Tensor = field(init=False)
    _has_ended: Tensor = field(init=False)
    _can_improve: bool = True

    def __post_init__(self) -> None:
        n = self.settings.num_beams
        self.texts, self._ended = [()] * n, [()] * n
        # All beams are one text at first: the others would only repeat it.
        self._scores = torch.tensor([0.0] + [_NEVER] * (n - 1))
        self._ended_scores = torch.full((n,), _NEVER)
        self._has_ended = torch.zeros(n, dtype=torch.bool)

    def step(self, log_probs: Tensor, ends: Ends, noise: Tensor | None = None) -> list[Move]:
        """One token more for every beam.

        Args:
            log_probs: float32 [num_beams, vocab], processed; a row for each live beam.
            ends: whether a text ends with its last token.
            noise: Gumbel noise like `log_probs`, to sample continuations without replacement in
                place of the best (Kool et al., arXiv 1903.06059); the law is that of
                `torch.multinomial` on the summed scores.

        Returns:
            How each live beam came to be, in their new order.
        """
        n, vocab = log_probs.shape
        totals = (log_probs + self._scores[:, None].to(log_probs.device)).view(-1)
        keep = min(max(2, 1 + self.settings.num_eos) * n, n * vocab)
        ranked = totals if noise is None else totals.double() + noise.view(-1)
        places = ranked.topk(keep).indices
        scores, places = totals[places].cpu(), places.cpu()
        moves = [Move(place // vocab, place % vocab) for place in places.tolist()]
        texts = [(*self.texts[m.parent], m.token) for m in moves]
        ended = torch.tensor([ends(text) for text in texts])
        self._keep_ended(texts, scores, ended)
        live = scores + ended.float() * _NEVER
        chosen = live.topk(n).indices
        self.texts, self._scores = [texts[i] for i in chosen.tolist()], live[chosen]
        self._can_improve = self._can_improve and self._promises()
        full = bool(self._has_ended.all()) and self.settings.early_stopping is True
        self.done = not self._can_improve or full or bool(ended.all())
        return [moves[i] for i in chosen.tolist()]

    def best(self, count: int) -> list[Hypothesis]:
        """The best that have ended, once the search is over."""
        scores = self._ended_scores.tolist()
        return [
            Hypothesis(text, score)
            for text, score in zip(self._ended[:count], scores, strict=False)
        ]

    def shared(self, count: int) -> tuple[int, ...]:
        """The longest beginning of every text that can still be among the `count` best."""
        texts = [
            text
            for text, has in zip(self._ended[:count], self._has_ended.tolist(), strict=False)
            if has
        ]
        return shared_beginning(texts if self.done else texts + self.texts)

    def _keep_ended(self, texts: list[tuple[int, ...]], scores: Tensor, ended: Tensor) -> None:
        """Of all that ended so far, the best;

        what ended beyond the first `num_beams` does not count.
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

    def _promises(self) -> bool:
        """Whether the best live beam can still beat the worst that has ended:

        an estimate, transformers' own.
        """
        settings, length = self.settings, len(self.texts[0])
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = settings.max_new_tokens
        best = self._scores[0] / (length**settings.length_penalty)
        worst = torch.where(self._has_ended, self._ended_scores.min(), torch.tensor(_NEVER))
        return bool((best > worst).any())
