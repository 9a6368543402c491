"""Contrastive search: ranks likely tokens by how little they resemble the text so far.

Su et al., "A Contrastive Framework for Neural Text Generation", arXiv 2202.06417, equation 5. The
arithmetic is that of transformers 4.55.4 (`_ranking_fast`), in the precision of its inputs.

The candidates of a step are the `top_k` most probable tokens of the softmax of the processed
logits. All history processors apply to them, no warper does, and nothing is sampled. A hidden state
is that of the last layer, after the final norm, as the model's head reads it. The context consists
of the prompt and all generated tokens.

This module knows nothing of models, caches, or of how the candidates were found.
"""

from torch import Tensor


def unit(hidden: Tensor) -> Tensor:
    """Scales hidden states, [..., hidden], to length 1."""
    length: Tensor = hidden.norm(dim=-1, keepdim=True)
    return hidden / length


def choose(context: Tensor, candidates: Tensor, probs: Tensor, alpha: float) -> int:
    """Returns the index of the best candidate, in [0, k).

    The best candidate has the largest (1 - alpha) * probability - alpha * similarity, where the
    similarity is the largest cosine similarity to a hidden state of the context. A candidate of
    probability 0 can be the best, as in transformers.

    Args:
        context: hidden states of prompt and generated tokens, of length 1, [length, hidden].
        candidates: hidden states of the candidates, each after the context, of length 1,
            [k, hidden].
        probs: the candidates' probabilities in the whole vocabulary, float32 [k].
        alpha: `penalty_alpha`, from 0 (the most probable) to 1 (the least similar).
    """
    similarity = (context @ candidates.T).amax(0)  # [k]
    return int(((1.0 - alpha) * probs - alpha * similarity).argmax())
