"""Packed weights change the order of sums and nothing else."""

import pytest
import torch
from torch import nn

from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed
from foredraft_engine.model.packed_weights import PackedLinear, pack_weights
from tests.models import random_model, rows_of, stock


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral"])
def test_a_packed_model_says_the_same(name: str) -> None:
    model = stock(random_model(name))
    text = torch.randint(4096, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        want = model(text).logits[0]
        linears = sum(type(m) is nn.Linear for m in model.modules())
        assert pack_weights(model, 0) == linears > 0
        assert not any(type(m) is nn.Linear for m in model.modules())
        assert torch.allclose(model(text).logits[0], want, atol=1e-3, rtol=1e-4)
        rows = rows_of(model, 2, 64)
        assert rows.layout == "packed"
        rows.forward([Feed(0, 0, text[0, :33].tolist())], [0])
        got = rows.forward([Feed(0, 33, text[0, 33:].tolist())], [7])
    assert torch.allclose(got, want[33:], atol=1e-3, rtol=1e-4)


def test_small_layers_are_left_alone() -> None:
    assert pack_weights(stock(random_model("llama"))) == 0


def test_half_precision() -> None:
    model = stock(random_model("llama").to(torch.bfloat16))
    text = torch.arange(5, 25)[None]
    with torch.inference_mode():
        want = model(text).logits
        packed = pack_weights(model, 0)
        assert packed or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        assert (model(text).logits - want).abs().max() <= 0.08 * want.abs().max()


def test_a_type_without_kernels_is_left_alone() -> None:
    assert pack_weights(random_model("llama").to(torch.float16)) == 0


def test_a_model_that_is_not_itself_afterwards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = PackedLinear.forward
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: forward(self, x) * 1.01)
    with pytest.raises(ModelError, match="--no-packed-weights"):
        pack_weights(stock(random_model("llama")), 0)
