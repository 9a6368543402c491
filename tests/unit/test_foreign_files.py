"""Files of a model run no code: nothing pickled is read, and its own Python stays where it is."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from foredraft_engine.errors import ModelError
from foredraft_engine.model.loading import load
from foredraft_engine.model.safe_weights import safe_weights
from tests.models import MODELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copied = tmp_path / "model"
    shutil.copytree(MODELS / "draft", copied)
    return copied


def _change(file: Path, **values: Any) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | values))


def _by_index(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    names = dict.fromkeys(weights, "model.bin")
    _change(folder / "model.safetensors.index.json", metadata={}, weight_map=names)


def _by_config(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "adapter_model.bin")
    _change(folder / "config.json", transformers_weights="adapter_model.bin")


@pytest.mark.parametrize("lead", [_by_index, _by_config], ids=["index", "config"])
def test_pickled_weights_are_read_by_no_way(lead: Callable[[Path], None], folder: Path) -> None:
    lead(folder)
    # This is no made-up way: transformers itself goes it.
    assert AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    with pytest.raises(ModelError, match=r"model\.bin is a pickled file, and only safetensors"):
        load(str(folder))


def test_pickled_weights_alone_are_refused_with_the_way_out(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights in \*\.safetensors or \*\.gguf.*convert"):
        load(str(folder))


def test_whatever_reads_pickled_files_is_stopped_for_a_load_alone(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "any.bin")
    with pytest.raises(ModelError, match=r"any\.bin is a pickled file"), safe_weights("x"):
        torch.load(tmp_path / "any.bin")
    assert torch.load(tmp_path / "any.bin") == {}


def test_nobody_is_asked_to_convert_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    with safe_weights("x"):
        assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"


_CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "own"
class Model(LlamaForCausalLM):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
def generate(*args, **kwargs): ...
"""


def _own_config(folder: Path) -> None:
    _change(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})


def _own_model(folder: Path) -> None:
    _change(folder / "config.json", auto_map={"AutoModelForCausalLM": "own.Model"})


def _own_tokenizer(folder: Path) -> None:
    named = {"auto_map": {"AutoTokenizer": [None, "own.Tokenizer"]}, "tokenizer_class": "Tokenizer"}
    _change(folder / "tokenizer_config.json", **named)


def _own_generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "own.py", folder / "custom_generate" / "generate.py")
    _change(folder / "generation_config.json", custom_generate=str(folder))


@pytest.mark.parametrize("part", [_own_config, _own_model, _own_tokenizer, _own_generate])
def test_a_models_own_code_runs_only_if_it_is_trusted(
    part: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = folder / "ran"
    (folder / "own.py").write_text(_CODE.format(marker=str(marker)))
    part(folder)
    monkeypatch.setattr("sys.stdin", None)  # nobody is asked either
    needed = part in (_own_config, _own_tokenizer)  # transformers has classes for the others
    told = pytest.raises(ModelError, match="own, which runs only with --trust-remote-code")
    with told if needed else nullcontext():
        load(str(folder))
    assert not marker.exists()


def test_trusted_code_runs(folder: Path) -> None:
    marker = folder / "ran"
    (folder / "own.py").write_text(_CODE.format(marker=str(marker)))
    _own_tokenizer(folder)
    assert load(str(folder), trust_remote_code=True)
    assert marker.exists()
