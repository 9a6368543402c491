"""Logits processors: they turn a model's logits into the scores that its token is chosen by.

A processor is a function of (prompt length, tokens so far, logits) and keeps no state. So there is
nothing to undo when a proposal is rejected, and draft and target agree. The classes and their order
are transformers' own (`GenerationMixin._get_logits_processor`); what vLLM has beside them stands
where vLLM has it, before and after the repetition penalty. The warpers that nearly every sampled
request uses exist a second time in `foredraft_engine.logits.warpers`, for a whole batch at once.

This module knows nothing of batches, proposals, or of how a token is drawn from the scores.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from foredraft_engine.logits.additions import GeneratedPenalty, LogitBias
from foredraft_engine.logits.grammar import Grammar, GrammarText
from foredraft_engine.logits.greenlist import GreenLists
from foredraft_engine.logits.warpers import has_rare_warpers
from foredraft_engine.noise import KeptGumbel
from foredraft_engine.sampling import Greenlist, Rule, Sampling

Processor = Callable[[Tensor, Tensor], Tensor]
"""A function of texts, int64 [n, length], and of scores, float32 [n, vocab], to scores."""


class Processors:
    """All processors of one sequence."""

    def __init__(
        self, sampling: Sampling, device: torch.device, grammar: Grammar | None = None
    ) -> None:
        """Builds the processors that `sampling` asks for, with their tensors on `device`.

        Args:
            grammar: that of the response format, if the text is held to one.
        """
        self.sampling = sampling
        self.held = GrammarText(grammar, sampling.eos_token_id) if grammar else None
        """The text's place in the grammar of its response format; None if it may be anything."""
        self.noise = KeptGumbel()
        mark = sampling.watermark
        self.green_lists = GreenLists(mark) if isinstance(mark, Greenlist) else None
        self._history = _history_processors(sampling, device)
        # Equal for all sequences that can go through the history processors together: neither
        # the rule nor the seed matters to them.
        self.history = (
            replace(sampling, rule=Rule.GREEDY, seed=0, sequence_index=0) if self._history else None
        )
        self.reads_text = bool(self._history or self.held) or sampling.watermark is not None
        """Whether the scores depend on the ids of the text, and not on its length alone."""
        self.has_rare_warpers = has_rare_warpers(sampling)
        self._rare_warpers = _rare_warpers(sampling, device) if self.has_rare_warpers else []

    def apply_history(self, context: Tensor, scores: Tensor) -> Tensor:
        """Applies the processors that read the text: penalties, bans and forced tokens.

        Args:
            context: the texts, int64 [n, length].
            scores: of the token after each text, float32 [n, vocab].
        """
        for processor in self._history:
            scores = processor(context, scores)
        return scores

    def apply_rare_warpers(self, scores: Tensor) -> Tensor:
        """Applies all warpers with transformers' own classes; scores float32 [n, vocab].

        Only a request that uses a rare warper needs this.
        """
        for warper in self._rare_warpers:
            scores = warper(None, scores)
        return scores


def _history_processors(s: Sampling, device: torch.device) -> list[Processor]:
    """Returns the processors that read the text, in transformers' order."""
    return [*_penalties_and_bans(s, device), *_forced_and_suppressed(s, device)]


def _eos(s: Sampling, device: torch.device) -> Tensor:
    # Made only for a processor that needs it: on an accelerator it costs a transfer.
    return torch.tensor(s.eos_token_id, dtype=torch.long, device=device)


def _penalties_and_bans(s: Sampling, device: torch.device) -> list[Processor]:
    chain: list[Processor] = []
    if s.sequence_bias:
        chain.append(hf.SequenceBiasLogitsProcessor({ids: bias for ids, bias in s.sequence_bias}))
    if s.logit_bias:
        chain.append(LogitBias(s.logit_bias, device))
    if s.repetition_penalty != 1.0:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    if s.frequency_penalty or s.presence_penalty:
        penalties = s.frequency_penalty, s.presence_penalty
        chain.append(GeneratedPenalty(s.prompt_length, *penalties))
    if s.no_repeat_ngram_size > 0:
        chain.append(hf.NoRepeatNGramLogitsProcessor(s.no_repeat_ngram_size))
    if s.bad_words_ids:
        banned = [list(ids) for ids in s.bad_words_ids]
        chain.append(hf.NoBadWordsLogitsProcessor(banned, _eos(s, device)))
    if s.min_length > 0 and s.eos_token_id:
        chain.append(hf.MinLengthLogitsProcessor(s.min_length, _eos(s, device), device=device))
    if s.min_new_tokens > 0 and s.eos_token_id:
        chain.append(
            hf.MinNewTokensLengthLogitsProcessor(
                s.prompt_length, s.min_new_tokens, _eos(s, device), device=device
            )
        )
    return chain


def _forced_and_suppressed(s: Sampling, device: torch.device) -> list[Processor]:
    chain: list[Processor] = []
    if s.forced_bos_token_id is not None:
        chain.append(hf.ForcedBOSTokenLogitsProcessor(s.forced_bos_token_id))
    if s.forced_eos_token_id:
        forced = list(s.forced_eos_token_id)
        chain.append(hf.ForcedEOSTokenLogitsProcessor(s.max_length, forced, device=device))
    if s.remove_invalid_values:
        chain.append(hf.InfNanRemoveLogitsProcessor())
    if s.exponential_decay_length_penalty is not None:
        decay = s.exponential_decay_length_penalty
        chain.append(hf.ExponentialDecayLengthPenalty(decay, _eos(s, device), s.prompt_length))
    if s.suppress_tokens:
        chain.append(hf.SuppressTokensLogitsProcessor(list(s.suppress_tokens), device=device))
    if s.begin_suppress_tokens:
        begin, suppressed = s.prompt_length, list(s.begin_suppress_tokens)
        if begin <= 1 and s.forced_bos_token_id is not None:
            begin += 1
        chain.append(hf.SuppressTokensAtBeginLogitsProcessor(suppressed, begin, device=device))
    return chain


def _rare_warpers(s: Sampling, device: torch.device) -> list[hf.LogitsProcessor]:
    """Returns all warpers of a request that uses a rare one, in transformers' order."""
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
