"""Rows of every kind give the model's own logits, and the proof chooses the right kind."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.model.loading import load
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import Rows
from tests.models import PACKED, bundled, random_model, rows_of


def _bloom() -> nn.Module:
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=4096, hidden_size=48, n_layer=2, n_head=4, initializer_range=0.25
    )
    model: nn.Module = BloomForCausalLM(config).eval()
    return model


def _gemma2() -> nn.Module:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=4096,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=10,
        initializer_range=0.2,
    )
    model: nn.Module = Gemma2ForCausalLM(config).eval()
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {name: partial(random_model, name) for name in PACKED}
MODELS |= {"gemma2": _gemma2, "bloom": _bloom}


@pytest.mark.parametrize("name", MODELS)
def test_ragged_rows_equal_separate_forwards(name: str) -> None:
    model = MODELS[name]()
    generator = torch.Generator().manual_seed(2)
    texts = [torch.randint(4096, (n,), generator=generator).tolist() for n in (6, 40, 23, 40)]
    with torch.inference_mode():
        want = [model(torch.tensor([text])).logits[0] for text in texts]
        rows = rows_of(model, 5, 64)
        assert rows.layout == ("separate" if name == "bloom" else "packed")
        rows.forward([Feed(i, 0, t[:5]) for i, t in enumerate(texts)], [0] * 4)
        # Neighbours with equally and unequally many tokens, and a row that is not fed.
        rows.forward(
            [Feed(1, 5, texts[1][5:30]), Feed(2, 5, texts[2][5:9]), Feed(3, 5, texts[3][5:30])],
            [0] * 3,
        )
        # After a rejection the same positions are fed other tokens.
        rows.forward([Feed(1, 30, [1, 2, 3]), Feed(2, 9, [1, 2, 3])], [1, 1])
        got = rows.forward(
            [Feed(0, 5, texts[0][5:]), Feed(1, 30, texts[1][30:33]), Feed(2, 9, texts[2][9:12])],
            [1, 3, 2],
        )
        expected = torch.cat([want[0][5:], want[1][30:33], want[2][10:12]])
        assert torch.allclose(got, expected, atol=1e-3, rtol=1e-4)
        rows.copy_row(3, 4, 30)  # a fork
        got = rows.forward([Feed(4, 30, texts[3][30:])], [10])
        assert torch.allclose(got, want[3][30:], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "bloom"])
def test_branches_equal_texts_of_their_own(name: str) -> None:
    """A tree grows in two passes, together with another row's round."""
    model = MODELS[name]()
    trunk = torch.randint(4096, (20,), generator=torch.Generator().manual_seed(3)).tolist()
    other = trunk[::-1]
    branches: dict[tuple[int, ...], list[int]] = {
        (7, 8, 9): [],
        (7, 8, 5): [],
        (7, 6): [],
        (4,): [],
    }
    with torch.inference_mode():
        want = {
            branch: model(torch.tensor([[*trunk, *branch]])).logits[0, -1] for branch in branches
        }
        beside = model(torch.tensor([other])).logits[0, -3:]
        rows = rows_of(model, 3, 32, 32)
        assert rows.spare == 32
        rows.forward([Feed(0, 0, other[:-3]), Feed(1, 0, trunk)], [0, 0])
        # Places 20: 7, 21: 4, 22: 8 (after 7), 23: 6 (after 7); then 24: 9, 25: 5, both after 7 8.
        first = Tree(20, [20, 20, 21, 21], [[], [], [20], [20]])
        one = rows.forward([Feed(1, 20, [7, 4, 8, 6], first)], [4])
        second = Tree(20, [22, 22], [[20, 22], [20, 22]])
        two = rows.forward([Feed(0, 17, other[-3:]), Feed(1, 24, [9, 5], second)], [3, 2])
        got = {(4,): one[1], (7, 6): one[3], (7, 8, 9): two[3], (7, 8, 5): two[4]}
        for branch, logits in want.items():
            assert torch.allclose(got[branch], logits, atol=1e-3, rtol=1e-4), branch
        assert torch.allclose(two[:3], beside, atol=1e-3, rtol=1e-4)


def test_a_step_copies_no_keys() -> None:
    """Attention reads views of the memory that was written, at any length."""
    model = random_model("llama")
    rows = rows_of(model, 4, 64)
    with torch.inference_mode():
        rows.forward([Feed(0, 0, [1, 2, 3]), Feed(1, 0, [4, 5, 6])], [0, 0])
        stores = _addresses(rows)
        key = rows.cache._stores[0][0].tensor  # type: ignore[attr-defined]
        assert key[0:2, :, :3].untyped_storage().data_ptr() == key.untyped_storage().data_ptr()
        rows.forward([Feed(0, 3, [7]), Feed(1, 3, [8])], [1, 1])
    assert _addresses(rows) == stores


def _addresses(rows: Rows) -> list[int]:
    pairs = rows.cache._stores.values()  # type: ignore[attr-defined]
    return [store.tensor.data_ptr() for pair in pairs for store in pair]


def test_a_model_whose_window_is_ignored_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that silently ignores the window differs from the model, and the proof notices."""
    import foredraft_engine.cache.attention

    attend = foredraft_engine.cache.attention.row_attention

    def blind(*args: object, **kwargs: object) -> object:
        return attend(*args, **{**kwargs, "sliding_window": None})  # type: ignore[arg-type]

    from transformers import AttentionInterface

    AttentionInterface.register(foredraft_engine.cache.attention.ATTENTION, blind)
    try:
        model = random_model("mistral")
        assert rows_of(model, 2, 64).layout == "separate"
    finally:
        AttentionInterface.register(foredraft_engine.cache.attention.ATTENTION, attend)


def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no/such/model"):
        load("/no/such/model")


@pytest.mark.parametrize("kind", ["t5", "mamba"])
def test_other_kinds_of_models_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM, T5Config

    folder = str(tmp_path)
    bundled("target").tokenizer.save_pretrained(folder)
    if kind == "t5":
        T5Config().save_pretrained(folder)
    else:
        small = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1)
        MambaForCausalLM(small).save_pretrained(folder)
    with pytest.raises(ModelError, match=kind):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_half_precision_is_packed_too(name: str, dtype: torch.dtype) -> None:
    """The proof's tolerance depends on the data type: rounding passes, and rows stay packed."""
    rows = rows_of(random_model(name).to(dtype), 2, 64)
    assert rows.layout == "packed"
    assert rows.forward([Feed(0, 0, [1, 2, 3])], [1]).dtype == torch.float32


ROPES: dict[str, dict[str, object]] = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 6,
        "long_factor": [4.0] * 6,
        "original_max_position_embeddings": 64,
    },
}


@pytest.mark.parametrize("kind", ROPES)
def test_rope_that_looks_at_the_batch_is_served_up_to_its_switch(kind: str, tmp_path: Path) -> None:
    """Beyond its original length a sequence's frequencies would depend on other sequences.

    The log says at start-up where that is.
    """
    positions = 64 if kind == "dynamic" else 256
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
        rope_parameters=ROPES[kind],
        initializer_range=0.25,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    bundled("target").tokenizer.save_pretrained(tmp_path)
    model = load(str(tmp_path))
    assert model.max_length == 64
    assert kind in model.length_note
    with torch.inference_mode():
        text = list(range(5, 69))
        want = model.module(torch.tensor([text])).logits[0]
        rows = prove_rows(model.module, model.text_config, 64).make(2, 64)
        assert rows.layout == "packed"
        rows.forward([Feed(0, 0, [1, 2, 3]), Feed(1, 0, text[:60])], [0, 0])
        got = rows.forward([Feed(0, 3, [4]), Feed(1, 60, text[60:])], [0, 4])
    assert torch.allclose(got, want[60:], atol=1e-3, rtol=1e-4)


def _llama4() -> Llama4ForCausalLM:
    config = Llama4TextConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        intermediate_size_mlp=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        max_position_embeddings=256,
        attention_chunk_size=16,
    )
    torch.manual_seed(0)
    return Llama4ForCausalLM(config).eval()


def test_a_text_model_whose_base_model_is_itself_has_hidden_states() -> None:
    """The base model of Llama 4 for text is named as the part of the larger model is."""
    model = _llama4()
    assert model.base_model is model
    rows = prove_rows(model, model.config, 64).make(2, 64)
    rows.forward([Feed(0, 0, [1, 2, 3])], [1])
    with torch.inference_mode():
        want = model.model(torch.tensor([[1, 2, 3]])).last_hidden_state[0]
    assert torch.allclose(rows.hidden, want, atol=1e-5)


@pytest.mark.parametrize("error", [KeyError("experts"), AssertionError(), OSError("two\nlines")])
def test_a_model_whose_own_forward_fails_is_refused_in_one_line(error: Exception) -> None:
    model = random_model("llama")

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    model.forward = fail
    with pytest.raises(
        ModelError, match=f"Llama.* own forward pass fails: {type(error).__name__}"
    ) as caught:
        prove_rows(model, model.config, 64)
    assert "\n" not in str(caught.value)
