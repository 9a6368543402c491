"""Log-probabilities of tokens, as callers are told them.

This module knows nothing of where the logits come from.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft_engine.proposal import Logprobs


def logprobs_of(logits: Tensor, ids: Sequence[int], top: int) -> tuple[Logprobs, ...]:
    """Returns the log-probability of each token and those of the most likely ones in its place.

    Args:
        logits: the model's own, float32 [n, vocab].
        ids: the token at each position, [n].
        top: how many of the most likely tokens are told, best first.
    """
    table = logits.log_softmax(dim=-1)  # [n, vocab]
    chosen = table.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0].tolist()
    values, best = table.topk(min(top, table.shape[1]), dim=-1)
    pairs = [
        tuple(zip(i, v, strict=True)) for i, v in zip(best.tolist(), values.tolist(), strict=True)
    ]
    return tuple(Logprobs(c, p) for c, p in zip(chosen, pairs, strict=True))
