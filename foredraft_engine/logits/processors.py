"""Logits processors: from a model's logits to the scores that its token is chosen by.

A processor is a function of (prompt length, tokens so far, logits) and keeps no state, so that
rolling back a rejected proposal needs no undoing, and draft and target agree. The classes and their
order are transformers' own (`GenerationMixin._get_logits_processor`); the warpers that every
sampled request uses exist a second time in `foredraft_engine.logits.warpers`, for a whole batch at
once.

Knows nothing of proposals or of how a token is drawn from the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from foredraft_engine.logits.greenlist import preferred
from foredraft_engine.logits.synthid import marked
from foredraft_engine.logits.warpers import has_rare_warpers, warp
from foredraft_engine.noise import KeptGumbel
from foredraft_engine.sampling import Greenlist, Rule, Sampling, SynthId


class Processors:
    """All processors of one sequence, built once."""

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        self.noise = KeptGumbel()
        self._history = _history_processors(sampling, device)
        # Equal for sequences whose histories are read alike, whatever their seeds.
        self.history = (
            replace(sampling, rule=Rule.GREEDY, seed=0, sequence_index=0) if self._history else None
        )
        self.has_rare_warpers = has_rare_warpers(sampling)
        self._rare_warpers = _rare_warpers(sampling, device) if self.has_rare_warpers else []

    def apply_history(self, context: Tensor, scores: Tensor) -> Tensor:
        """Penalties, bans and forced tokens:

        context int64 [n, length], scores float32 [n, vocab].
        """
        for processor in self._history:
            scores = processor(context, scores)
        return scores

    def apply_rare_warpers(self, scores: Tensor) -> Tensor:
        """Every warper by transformers' own class, for requests that use a rare one. [n, vocab]."""
        for warper in self._rare_warpers:
            scores = warper(None, scores)
        return scores


@dataclass(frozen=True, slots=True)
class Scored:
    """One sequence's share of a batch of logits.

    `tokens` is prompt and everything after it as far as the last scored position, so that row i of
    `count` rows follows tokens[: len(tokens) - count + 1 + i].
    """

    processors: Processors
    tokens: Sequence[int]
    count: int


def process(batch: Sequence[Scored], logits: Tensor) -> Tensor:
    """Scores for many sequences at once.

    Args:
        batch: the sequences; their counts add up to n.
        logits: float32 [n, vocab], sequence after sequence.

    Returns:
        Scores, float32 [n, vocab].
    """
    if any(item.processors.history for item in batch):
        logits = _apply_histories(batch, logits)
    rows = [item.processors.sampling for item in batch for _ in range(item.count)]
    logits = warp(rows, logits)
    if any(item.processors.has_rare_warpers for item in batch):
        parts = logits.split([item.count for item in batch])
        logits = torch.cat(
            [i.processors.apply_rare_warpers(part) for i, part in zip(batch, parts, strict=True)]
        )
    if any(sampling.watermark for sampling in rows):
        parts = logits.split([item.count for item in batch])
        logits = torch.cat([_marked(item, part) for item, part in zip(batch, parts, strict=True)])
    if any(sampling.renormalize_logits for sampling in rows):
        wanted = torch.tensor(
            [sampling.renormalize_logits for sampling in rows], device=logits.device
        )
        logits = torch.where(wanted[:, None], logits.log_softmax(-1), logits)
    return logits


def _marked(item: Scored, scores: Tensor) -> Tensor:
    """Scores of one sequence, float32 [count, vocab], with its watermark."""
    mark, tokens = item.processors.sampling.watermark, item.tokens
    if isinstance(mark, SynthId):
        return marked(mark, tokens[item.processors.sampling.prompt_length :], scores)
    if isinstance(mark, Greenlist):
        first, width = len(tokens) - item.count + 1, mark.context_width
        ends = range(first, first + item.count)
        contexts = [tokens[max(0, end - width) : end] for end in ends]
        return torch.stack(
            [preferred(mark, context, row) for context, row in zip(contexts, scores, strict=True)]
        )
    return scores


def _apply_histories(batch: Sequence[Scored], logits: Tensor) -> Tensor:
    """Positions of equal length under equal parameters go through the processors together.

    [n, vocab].
    """
    groups: dict[tuple[Sampling, int], list[tuple[int, Scored]]] = {}
    row = 0
    for item in batch:
        for i in range(item.count):
            if item.processors.history:
                length = len(item.tokens) - item.count + 1 + i
                groups.setdefault((item.processors.history, length), []).append((row, item))
            row += 1
    scores = logits.clone()
    for (_, length), members in groups.items():
        rows = torch.tensor([row for row, _ in members], device=logits.device)
        context = torch.tensor(
            [list(item.tokens[:length]) for _, item in members], device=logits.device
        )
        scores[rows] = members[0][1].processors.apply_history(context, logits[rows])
    return scores


def _history_processors(s: Sampling, device: torch.device) -> list[hf.LogitsProcessor]:
    """In transformers' order."""

    def eos() -> Tensor:  # made for those that want it: on an accelerator it is a transfer
        return torch.tensor(s.eos_token_id, dtype=torch.long, device=device)

    chain: list[hf.LogitsProcessor] = []
    if s.sequence_bias:
        chain.append(hf.SequenceBiasLogitsProcessor({ids: bias for ids, bias in s.sequence_bias}))
    if s.repetition_penalty != 1.0:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    if s.no_repeat_ngram_size > 0:
        chain.append(hf.NoRepeatNGramLogitsProcessor(s.no_repeat_ngram_size))
    if s.bad_words_ids:
        chain.append(hf.NoBadWordsLogitsProcessor([list(ids) for ids in s.bad_words_ids], eos()))
    if s.min_length > 0 and s.eos_token_id:
        chain.append(hf.MinLengthLogitsProcessor(s.min_length, eos(), device=device))
    if s.min_new_tokens > 0 and s.eos_token_id:
        chain.append(
            hf.MinNewTokensLengthLogitsProcessor(
                s.prompt_length, s.min_new_tokens, eos(), device=device
            )
        )
    if s.forced_bos_token_id is not None:
        chain.append(hf.ForcedBOSTokenLogitsProcessor(s.forced_bos_token_id))
    if s.forced_eos_token_id:
        chain.append(
            hf.ForcedEOSTokenLogitsProcessor(
                s.max_length, list(s.forced_eos_token_id), device=device
            )
        )
    if s.remove_invalid_values:
        chain.append(hf.InfNanRemoveLogitsProcessor())
    if s.exponential_decay_length_penalty is not None:
        chain.append(
            hf.ExponentialDecayLengthPenalty(
                s.exponential_decay_length_penalty, eos(), s.prompt_length
            )
        )
    if s.suppress_tokens:
        chain.append(hf.SuppressTokensLogitsProcessor(list(s.suppress_tokens), device=device))
    if s.begin_suppress_tokens:
        begin = s.prompt_length
        if begin <= 1 and s.forced_bos_token_id is not None:
            begin += 1
        chain.append(
            hf.SuppressTokensAtBeginLogitsProcessor(
                list(s.begin_suppress_tokens), begin, device=device
            )
        )
    return chain


def _rare_warpers(s: Sampling, device: torch.device) -> list[hf.LogitsProcessor]:
    """All warpers of a request that uses a rare one, in transformers' order."""
    chain: list[hf.LogitsProcessor] = []
    keep: dict[str, int] = {"min_tokens_to_keep": s.min_tokens_to_keep}
    if s.temperature != 1.0:
        chain.append(hf.TemperatureLogitsWarper(s.temperature))
    if s.top_h is not None:
        chain.append(hf.TopHLogitsWarper(top_h=s.top_h))
    if s.top_k:
        chain.append(hf.TopKLogitsWarper(top_k=s.top_k, **keep))
    if s.top_p < 1.0:
        chain.append(hf.TopPLogitsWarper(top_p=s.top_p, **keep))
    if s.min_p:
        chain.append(hf.MinPLogitsWarper(min_p=s.min_p, **keep))
    if s.typical_p < 1.0:
        chain.append(hf.TypicalLogitsWarper(mass=s.typical_p, **keep))
    if 0.0 < s.epsilon_cutoff < 1.0:
        chain.append(hf.EpsilonLogitsWarper(epsilon=s.epsilon_cutoff, **keep))
    if 0.0 < s.eta_cutoff < 1.0:
        chain.append(hf.EtaLogitsWarper(epsilon=s.eta_cutoff, device=device, **keep))
    return chain
