"""Contrastive search: which candidate says something likely that the text has not said yet.

Su et al., "A Contrastive Framework for Neural Text Generation", arXiv 2202.06417, equation 5; the
arithmetic is that of transformers 4.55.4 (`_ranking_fast`), in the numbers' own precision. Knows
nothing of models, caches or how the candidates were found.

The candidates of a step are the `top_k` most probable tokens of the softmax of the processed
logits: every history processor applies, no warper does, and nothing is sampled. A hidden state is
the last of the model (what its head reads, after the final norm); the context's are those of the
prompt and of every token generated so far.
"""

from torch import Tensor


def unit(hidden: Tensor) -> Tensor:
    """Hidden states scaled to length 1:

    [..., hidden] to the same shape. What of a context is worth keeping.
    """
    length: Tensor = hidden.norm(dim=-1, keepdim=True)
    return hidden / length


def choose(context: Tensor, candidates: Tensor, probs: Tensor, alpha: float) -> int:
    """The candidate with the best of (1 - alpha) * probability - alpha * its greatest likeness to
    the context.

    Args:
        context: unit hidden states of the prompt and of what was generated, [length, hidden].
        candidates: unit hidden states of the candidates, each read after the context, [k, hidden].
        probs: the candidates' probabilities among the whole vocabulary, float32 [k].
        alpha: `penalty_alpha`, from 0 (the most probable) to 1 (the least like the context).

    Returns:
        The candidate's index in [0, k). One of probability 0 can be chosen, as in transformers.
    """
    likeness = (context @ candidates.T).amax(0)  # [k]
    return int(((1.0 - alpha) * probs - alpha * likeness).argmax())
