"""Distillation: the draft learns the target's distribution, over the library's text and the
target's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from demo.learning import Loss

_PROMPT, _NEW, _ROWS = 64, 192, 64


def divergence(target: LlamaForCausalLM) -> Loss:
    """Returns the KL of the draft's distribution from the target's, in nats per token."""

    def loss_of(window: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = target(window[:, :-1], use_cache=False).logits.float().log_softmax(-1)
        given = logits.log_softmax(-1)
        return F.kl_div(
            given.flatten(0, 1), wanted.flatten(0, 1), reduction="batchmean", log_target=True
        )

    return loss_of


@torch.inference_mode()
def continuations(target: LlamaForCausalLM, ids: Tensor, batches: int, seed: int) -> Tensor:
    """Returns text with which the target goes on, greedy and sampled, as the draft will meet it.
    int64 [n].
    """
    target.generation_config.eos_token_id = None  # the rows stay equally long, also past an end
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    texts = []
    for number in range(batches):
        starts = torch.randint(len(ids) - _PROMPT, (_ROWS,), generator=generator)
        prompts = torch.stack([ids[start : start + _PROMPT] for start in starts])
        temperature = (0.0, 0.7, 0.0, 1.0)[number % 4]
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
        )
        mask = torch.ones_like(prompts)
        rows = target.generate(prompts, attention_mask=mask, max_new_tokens=_NEW, **sampling)
        texts.append(rows.flatten())
    return torch.cat(texts)
