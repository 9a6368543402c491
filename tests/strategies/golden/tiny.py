"""A small GPT-2 that every version of transformers builds alike: its weights are drawn here, not by
the library.

Used by `make.py` under transformers 4.55.4 and by the tests under the version of the project; so it
imports neither the project nor anything that only one of the two versions has.
"""

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

VOCAB = 384


def tiny() -> nn.Module:
    """Returns a model in float32 with weights so large that its texts do not repeat one token."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if (
                weight.dim() > 1
            ):  # what has one dimension is a bias (zeros) or a norm's scale (ones)
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.25)
    built: nn.Module = model.eval()
    return built
