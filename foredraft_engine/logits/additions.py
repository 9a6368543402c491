"""Logits processors that add to logits, with the meanings of vLLM.

They are functions of the tokens alone, as those of `foredraft_engine.logits.processors` are, which
says in which order all are applied. This module knows nothing of requests.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class LogitBias:
    """Numbers that are added to the logits of some tokens."""

    def __init__(self, biases: Sequence[tuple[int, float]], device: torch.device) -> None:
        """
        Args:
            biases: pairs of a token and its number; no token occurs twice.
        """
        ids, numbers = zip(*biases, strict=True)
        self._ids = torch.tensor(ids, dtype=torch.long, device=device)
        self._numbers = torch.tensor(numbers, dtype=torch.float32, device=device)

    def __call__(self, context: Tensor, scores: Tensor) -> Tensor:
        """Returns the scores with the numbers added; context int64 [n, length], scores float32
        [n, vocab].
        """
        scores = scores.clone()
        scores[:, self._ids] += self._numbers
        return scores


class GeneratedPenalty:
    """Penalties for tokens that were generated; those of the prompt do not count."""

    def __init__(self, prompt_length: int, frequency: float, presence: float) -> None:
        """
        Args:
            frequency: is subtracted for each time that a token was generated.
            presence: is subtracted once.
        """
        self._prompt_length = prompt_length
        self._frequency, self._presence = frequency, presence

    def __call__(self, context: Tensor, scores: Tensor) -> Tensor:
        """Returns the scores less the penalties; context int64 [n, length], scores float32
        [n, vocab].
        """
        generated = context[:, self._prompt_length :]
        times = torch.zeros_like(scores).scatter_add_(
            1, generated, torch.ones_like(generated, dtype=scores.dtype)
        )
        return scores - self._frequency * times - self._presence * (times > 0)
