"""Layers that read the same tensor are computed at once, and say the same."""

import pytest
import torch
from torch import nn

from foredraft_engine.feed import Feed
from foredraft_engine.model.joined_linears import JoinedLinear, JoinedPart, join_linears
from foredraft_engine.model.packed_weights import pack_weights
from tests.models import random_model, rows_of, stock

TEXT = torch.randint(4096, (1, 40), generator=torch.Generator().manual_seed(1))


# Llama has queries, keys and values, and two layers of its MLP; GPT-2 has no linear layer in them.
@pytest.mark.parametrize(("name", "parts"), [("llama", 3), ("qwen3", 3), ("gpt2", 0)])
def test_a_joined_model_says_the_same(name: str, parts: int) -> None:
    model = stock(random_model(name))
    with torch.inference_mode():
        want = model(TEXT).logits[0]
        layers = sum(name.endswith(".mlp") for name, _ in model.named_modules())
        assert join_linears(model) == parts * layers
        assert torch.allclose(model(TEXT).logits[0], want, atol=1e-3, rtol=1e-4)
        rows = rows_of(model, 2, 64)
        rows.forward([Feed(0, 0, TEXT[0, :33].tolist())], [0])
        got = rows.forward([Feed(0, 33, TEXT[0, 33:].tolist())], [7])
    assert torch.allclose(got, want[33:], atol=1e-3, rtol=1e-4)


def test_joined_layers_are_packed_as_one() -> None:
    model = stock(random_model("llama"))
    with torch.inference_mode():
        want = model(TEXT).logits
        linears = sum(type(m) is nn.Linear for m in model.modules())
        parts = join_linears(model)
        assert pack_weights(model, 0) == linears - parts
        assert torch.allclose(model(TEXT).logits, want, atol=1e-3, rtol=1e-4)


def test_nothing_is_kept_between_passes() -> None:
    model = stock(random_model("llama"))
    assert join_linears(model)
    with torch.inference_mode():
        model(TEXT)
    for module in model.modules():
        if isinstance(module, JoinedLinear):
            assert module._input is None
            assert not module._outputs


def test_a_model_that_reads_a_weight_stays_as_it_is() -> None:
    model = stock(random_model("llama"))
    attention = model.get_submodule("model.layers.0.self_attn")
    own = attention.forward

    def forward(*args: object, **kwargs: object) -> object:
        assert attention.get_submodule("k_proj").weight.dtype
        return own(*args, **kwargs)

    attention.forward = forward
    assert join_linears(model) == 0
    assert not any(isinstance(m, JoinedLinear | JoinedPart) for m in model.modules())
