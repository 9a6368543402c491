"""A model directory that cannot be served leads to one line that says what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from foredraft_engine.errors import ModelError
from foredraft_engine.model.loading import load
from tests.models import MODELS


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:50_000])


def _config(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_without("config.json"), "has no config.json"),
    "no tokenizer": (_without("tokenizer.json"), "has no tokenizer"),
    "no weights": (_without("model.safetensors"), "no weights in"),
    "weights cut off": (_cut_weights, "cannot load the weights of .* are the files whole"),
    "a config that is none": (_broken_config, "not a valid JSON"),
    "an unknown kind": (_config(model_type="nonsense"), "nonsense"),
    "a model of images": (_config(model_type="vit"), "vit is no causal language model"),
    "fewer weights than layers": (_config(num_hidden_layers=3), "the weights lack 9 tensors"),
    "weights of other shapes": (_config(intermediate_size=400), "cannot load the weights of"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_directory_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    spoil, said = SPOILED[name]
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "draft", folder)
    spoil(folder)
    with pytest.raises(ModelError, match=said) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/model", "./no-such", "one/two/three"])
def test_a_path_is_not_taken_for_a_hub_id(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such directory"):
        load(name)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="device 'nonsense' cannot be used: torch has no such"):
        load(str(MODELS / "draft"), device="nonsense")
