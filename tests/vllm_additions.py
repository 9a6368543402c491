"""What OpenAI's API adds to logits, by vLLM's definition, token by token."""

import torch
from transformers.generation import logits_process as hf

from foredraft_engine.sampling import Sampling

ADDED = ("frequency_penalty", "presence_penalty", "logit_bias")
"""The names of the fields."""


class Additions(hf.LogitsProcessor):
    """The biases and penalties of one request, as a processor of transformers.

    vLLM (`apply_penalties`): logits -= frequency_penalties * output_bin_counts, then logits -=
    presence_penalties * output_mask; both are of generated tokens alone.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        s, scores = self._sampling, scores.clone()
        for text, row in zip(input_ids.tolist(), scores, strict=True):
            for token, bias in s.logit_bias:
                row[token] += bias
            generated = text[s.prompt_length :]
            for token in set(generated):
                row[token] -= s.frequency_penalty * generated.count(token)
                row[token] -= s.presence_penalty
        return scores
