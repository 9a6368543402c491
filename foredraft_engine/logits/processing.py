"""Turns the logits of many sequences into scores, each by its own processors, as one batch.

What every sampled request needs are tensors for the whole batch. What needs the text (penalties,
bans, watermarks) is paid for by the rows that ask for it.

This module knows nothing of proposals, or of how a token is drawn from the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.grammar import GrammarText
from foredraft_engine.logits.grammar_masks import GrammarMasks
from foredraft_engine.logits.processors import Processors
from foredraft_engine.logits.synthid import watermarked
from foredraft_engine.logits.warpers import Warping
from foredraft_engine.sampling import Sampling, SynthId
from foredraft_engine.transfer import HostArray, to_device


@dataclass(frozen=True, slots=True)
class Scored:
    """The text of one sequence, and the number of its last positions that have logits in a batch.

    Row i of these `count` rows scores the token after tokens[: len(tokens) - count + 1 + i].
    """

    processors: Processors
    tokens: Sequence[int]
    """The prompt and everything after it, up to the last scored position."""
    count: int

    @property
    def held(self) -> tuple[GrammarText | None, Sequence[int], int]:
        """The generated tokens and the number of positions, with the grammar, if there is one."""
        own = self.processors
        generated = self.tokens[own.sampling.prompt_length :] if own.held else ()
        return own.held, generated, self.count

    @property
    def first(self) -> "Scored":
        """The same text up to its first scored position alone."""
        return Scored(self.processors, self.tokens[: len(self.tokens) - self.count + 1], 1)


class _Histories:
    """The processors that read texts, for a batch.

    Texts of the same length under the same parameters go through the processors together.
    """

    def __init__(self, batch: Sequence[Scored]) -> None:
        groups: dict[tuple[Sampling, int], list[tuple[int, Scored]]] = {}
        row = 0
        for item in batch:
            for length in range(len(item.tokens) - item.count + 1, len(item.tokens) + 1):
                if item.processors.history:
                    groups.setdefault((item.processors.history, length), []).append((row, item))
                row += 1
        self._processors = [members[0][1].processors for members in groups.values()]
        self.arrays: list[HostArray] = []
        """The rows of each group, int64 [n], and their texts, int64 [n, length]."""
        for (_, length), members in groups.items():
            texts = [item.tokens[:length] for _, item in members]
            self.arrays += [
                np.array([row for row, _ in members], dtype=np.int64),
                np.array(texts, dtype=np.int64),
            ]

    def apply(self, logits: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Applies them all; logits float32 [n, vocab], `tensors` are `arrays` on the device."""
        if not self._processors:
            return logits
        scores = logits.clone()
        groups = zip(self._processors, tensors[::2], tensors[1::2], strict=True)
        for processors, rows, texts in groups:
            scores[rows] = processors.apply_history(texts, logits[rows])
        return scores


class Processing:
    """The processing of a batch, whose parameters move to the device together with other numbers.

    The caller moves `arrays` and gives them to `apply` as tensors.
    """

    def __init__(self, batch: Sequence[Scored], vocab: int) -> None:
        """
        Args:
            batch: the sequences; their counts add up to n.
            vocab: the number of scores in a row.
        """
        self._batch = batch
        rows = [item.processors.sampling for item in batch for _ in range(item.count)]
        self._warping = Warping(rows, vocab)
        self._histories = _Histories(batch)
        self._masks = GrammarMasks([item.held for item in batch])
        self._arrays = dict(self._warping.arrays)
        self._is_marked = any(sampling.watermark for sampling in rows)
        if any(sampling.renormalize_logits for sampling in rows):
            normalised = [[sampling.renormalize_logits] for sampling in rows]
            self._arrays["normalised"] = np.array(normalised, dtype=np.bool_)

    @property
    def arrays(self) -> list[HostArray]:
        """The parameters on the host."""
        return [*self._arrays.values(), *self._masks.arrays, *self._histories.arrays]

    def apply(self, logits: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Applies the processors of many sequences at once.

        Args:
            logits: float32 [n, vocab], sequence after sequence.
            tensors: `arrays` on the device.

        Returns:
            Scores, float32 [n, vocab].
        """
        batch, own, masks = self._batch, len(self._arrays), len(self._masks.arrays)
        parameters = dict(zip(self._arrays, tensors[:own], strict=True))
        counts = [item.count for item in batch]
        logits = self._histories.apply(logits, tensors[own + masks :])
        # The last processor: none after it gives a banned token a score again.
        logits = self._masks.apply(logits, tensors[own : own + masks])
        logits = self._warping.apply(logits, parameters)
        if any(item.processors.has_rare_warpers for item in batch):
            parts = zip(batch, logits.split(counts), strict=True)
            logits = torch.cat([i.processors.apply_rare_warpers(part) for i, part in parts])
        if self._is_marked:
            parts = zip(batch, logits.split(counts), strict=True)
            logits = torch.cat([_watermarked(item, part) for item, part in parts])
        if "normalised" in parameters:
            logits = torch.where(parameters["normalised"], logits.log_softmax(-1), logits)
        return logits


def process(batch: Sequence[Scored], logits: Tensor) -> Tensor:
    """Applies the processors of many sequences at once.

    Args:
        batch: the sequences; their counts add up to n.
        logits: float32 [n, vocab], sequence after sequence.

    Returns:
        Scores, float32 [n, vocab].
    """
    processing = Processing(batch, logits.shape[1])
    return processing.apply(logits, to_device(processing.arrays, logits.device))


def _watermarked(item: Scored, scores: Tensor) -> Tensor:
    """Applies the watermark of one sequence, if it has one; scores float32 [count, vocab]."""
    watermark, tokens = item.processors.sampling.watermark, item.tokens
    if isinstance(watermark, SynthId):
        return watermarked(watermark, tokens[item.processors.sampling.prompt_length :], scores)
    if lists := item.processors.green_lists:
        first, width = len(tokens) - item.count + 1, lists.context_width
        ends = range(first, first + item.count)
        contexts = [tokens[max(0, end - width) : end] for end in ends]
        return torch.stack(
            [lists.preferred(context, row) for context, row in zip(contexts, scores, strict=True)]
        )
    return scores
