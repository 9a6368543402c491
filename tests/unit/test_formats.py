"""A model in any of the formats that people have is loaded, or refused by what it is."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from foredraft_engine.errors import ModelError
from foredraft_engine.model import device as device_module
from foredraft_engine.model.loading import load
from tests.formats import text_of, write_adapter, write_gguf
from tests.models import MODELS, bundled


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder = tmp_path_factory.mktemp("adapter")
    return folder, write_adapter(MODELS / "draft", folder)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(MODELS / "draft", tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.mark.parametrize("named", ["the file", "its directory"])
def test_a_gguf_file_is_the_model_that_it_was_written_from(gguf_file: Path, named: str) -> None:
    loaded = load(str(gguf_file if named == "the file" else gguf_file.parent))
    own = bundled("draft")
    assert loaded.tokenizer.get_vocab() == own.tokenizer.get_vocab()
    assert loaded.max_length == own.max_length
    assert loaded.dtype == "float32"
    assert loaded.dtype_note == "GGUF is unpacked to torch.float32; --dtype chooses another"
    for name, weight in own.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], weight), name
    assert text_of(loaded.module, loaded.tokenizer) == text_of(own.module, own.tokenizer)


def test_several_gguf_files_are_a_choice(gguf_file: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(gguf_file, tmp_path / name)
    with pytest.raises(ModelError, match=r"2 GGUF files; give one of them: a.gguf, b.gguf"):
        load(str(tmp_path))


def test_an_adapter_is_merged(adapter: tuple[Path, nn.Module]) -> None:
    folder, merged = adapter
    loaded = load(str(MODELS / "draft"), adapter=str(folder))
    assert type(loaded.module) is type(merged)
    for name, weight in merged.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], weight), name
    expected = text_of(merged, loaded.tokenizer)
    assert text_of(loaded.module, loaded.tokenizer) == expected
    assert expected != text_of(bundled("draft").module, loaded.tokenizer)


def _prompt_tuning(folder: Path) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "PROMPT_TUNING"}))


def _no_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def _cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another kind": (_prompt_tuning, "of the kind PROMPT_TUNING, and only LORA is merged"),
    "no config": (_no_config, "it has no adapter_config.json"),
    "pickled weights": (_pickled, "no weights in adapter_model.safetensors, the only format"),
    "weights cut off": (_cut, "cannot merge the adapter"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_adapter_is_told_in_one_line(
    name: str, adapter: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    spoil, said = SPOILED[name]
    folder = tmp_path / "adapter"
    shutil.copytree(adapter[0], folder)
    spoil(folder)
    with pytest.raises(ModelError, match=said) as caught:
        load(str(MODELS / "draft"), adapter=str(folder))
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_model(adapter: tuple[Path, nn.Module]) -> None:
    with pytest.raises(ModelError, match="is it of this base model"):
        load(str(MODELS / "target"), adapter=str(adapter[0]))


def test_an_adapter_alone(adapter: tuple[Path, nn.Module]) -> None:
    base = f"{MODELS / 'draft'}"
    with pytest.raises(ModelError, match=r"a LoRA adapter: give its base model \(") as caught:
        load(str(adapter[0]))
    assert f"({base}) as --model and this as --adapter" in str(caught.value)


@pytest.mark.parametrize("package", ["gguf", "peft"])
def test_a_missing_extra_is_named(
    package: str,
    gguf_file: Path,
    adapter: tuple[Path, nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    model, merged = (gguf_file, "") if package == "gguf" else (MODELS / "draft", adapter[0])
    with pytest.raises(ModelError, match=rf'pip install "foredraft\[{package}\]"'):
        load(str(model), adapter=str(merged))


# These are unpacked by transformers itself, which takes weights that are plain already as they are,
# or by a package that is installed here.
UNPACKED = ("fp8", "gguf", "mxfp8", "mxfp4", "metal", "quanto", "compressed-tensors")
WAY_OUT = "give the model that it was made from, or one quantized by compressed-tensors or torchao"
NEEDED = {
    "awq": "gptqmodel",
    "bitsandbytes_4bit": "bitsandbytes",
    "gptq": "optimum",
    "torchao": "torchao",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [m for m in AUTO_QUANTIZER_MAPPING if m not in UNPACKED])
def test_a_quantized_checkpoint_is_refused_by_what_it_is(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "draft", folder)
    file = folder / "config.json"
    quantized = {"quantization_config": {"quant_method": method, "bits": 4}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantized))
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    told = str(caught.value)
    assert "\n" not in told
    assert f"quantized by {method} " in told
    if package := NEEDED.get(method):
        assert f"needs the package {package}" in told
        assert f"pip install '{package}" in told
    # Each has a way out, and a method that transformers adds is tried here by itself.
    assert "pip install '" in told or told.endswith(f": {WAY_OUT}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", UNPACKED)
def test_what_is_unpacked_here_loads_or_names_its_method(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "draft", folder)
    file = folder / "config.json"
    quantized = {"quantization_config": {"quant_method": method}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantized))
    assert re.fullmatch(rf"|.*quantized by {method}.*", _told(folder))


def _told(folder: Path) -> str:
    """Returns why a model does not load; empty if it does."""
    try:
        load(str(folder))
    except ModelError as error:
        return str(error)
    return ""


def test_several_devices_are_refused_by_what_there_is() -> None:
    with pytest.raises(ModelError, match="a service runs on one device"):
        load(str(MODELS / "draft"), device="cuda:0,cuda:1")


@pytest.mark.parametrize(("gpu", "chosen"), [(False, "cpu"), (True, "meta")])
def test_the_device_is_chosen_and_said(
    gpu: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "foredraft_engine")
    if gpu:
        monkeypatch.setattr(device_module, "_best", lambda: "meta")
    assert device_module.device_of("auto").type == chosen
    assert f"device: {chosen}" in caplog.text
