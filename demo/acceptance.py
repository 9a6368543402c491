"""How far a draft foresees greedy answers of its target.

A greedy draft is right up to its first wrong token, and up to there it has read the target's own
text. So one pass over the whole text tells what every round would have accepted.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from demo.conversations import Conversations

_LENGTHS = (1, 2, 3, 4, 5)


def report(draft: LlamaForCausalLM, own_ids: Tensor, known: Tensor, text: Conversations) -> str:
    """Returns what was accepted, for people."""
    answers = list(_answers(foreseen(draft, own_ids, known, text), text.answers))
    tokens = sum(map(len, answers))
    right = sum(map(sum, answers)) / tokens
    lines = [f"{tokens} tokens of greedy answers, {right:.1%} of them foreseen"]
    for k in _LENGTHS:
        lines.append(f"draft length {k}: mean acceptance length {mean_length(answers, k):.2f}")
    return "\n".join(lines)


@torch.inference_mode()
def foreseen(
    draft: LlamaForCausalLM, own_ids: Tensor, known: Tensor, text: Conversations
) -> Tensor:
    """Returns whether the draft's likeliest token is the one that comes, bool [rows, length - 1].

    Args:
        own_ids: the draft's own id of each id of the target.
        known: the target's id of each of its own, but for the last.
    """
    logits = draft(own_ids[text.ids.long()], use_cache=False).logits[:, :-1, : len(known)]
    return known[logits.argmax(-1)] == text.ids[:, 1:]


def _answers(right: Tensor, answers: Tensor) -> Iterator[list[bool]]:
    """Yields for each answer which of its tokens were foreseen."""
    for row, asked in zip(right.tolist(), answers[:, 1:].tolist(), strict=True):
        one: list[bool] = []
        for hit, is_asked in zip(row, asked, strict=True):
            if is_asked:
                one.append(hit)
            elif one:
                yield one
                one = []
        if one:
            yield one


def mean_length(answers: Sequence[Sequence[bool]], k: int) -> float:
    """Returns 1 + accepted / rounds of proposals of k tokens."""
    tokens = rounds = 0
    for right in answers:
        at = 0
        while at < len(right):
            accepted = 0
            while accepted < k and at + accepted < len(right) and right[at + accepted]:
                accepted += 1
            at, rounds = at + accepted + 1, rounds + 1
        tokens += len(right)
    return tokens / rounds
