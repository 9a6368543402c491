"""Weights have the data type of their checkpoint, unless the device would only emulate it."""

import pytest
import torch
from transformers import LlamaConfig

from foredraft_engine.model import dtypes
from foredraft_engine.model.dtypes import dtype_for
from foredraft_engine.model.loading import load
from tests.models import MODELS

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_the_checkpoint_chooses(own: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "_has_bfloat16", lambda: True)
    assert dtype_for("auto", LlamaConfig(dtype=own), CPU) == (own, "")


def test_half_precision_is_for_accelerators() -> None:
    config = LlamaConfig(dtype=torch.float16)
    assert dtype_for("auto", config, GPU) == (torch.float16, "")
    chosen, note = dtype_for("auto", config, CPU)
    assert chosen is torch.float32
    assert note.startswith("the checkpoint has float16, but cpu does not compute in it")


def test_what_would_be_emulated_is_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "_has_bfloat16", lambda: False)
    chosen, note = dtype_for("auto", LlamaConfig(dtype=torch.bfloat16), CPU)
    assert chosen is torch.float32
    assert "bfloat16" in note


def test_a_checkpoint_that_does_not_say() -> None:
    chosen, note = dtype_for("auto", LlamaConfig(), GPU)
    assert chosen is torch.float32
    assert "it is not said" in note


def test_the_operator_goes_before_the_checkpoint() -> None:
    config = LlamaConfig(dtype=torch.float32)
    assert dtype_for("float16", config, CPU) == (torch.float16, "")


@pytest.mark.parametrize("name", ["auto", "bfloat16"])
def test_a_loaded_model_tells_its_data_type(name: str) -> None:
    model = load(str(MODELS / "draft"), dtype=name)
    weights = {str(p.dtype) for p in model.module.parameters()}
    assert weights == {f"torch.{model.dtype}"}
    assert bool(model.dtype_note) == (name == "auto")  # the bundled pair is kept in float16
