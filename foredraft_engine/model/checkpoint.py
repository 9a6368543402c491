"""What the name of a model leads to: a directory or a hub id of safetensors, or a GGUF file.

Whatever cannot be loaded as a model is refused by what it is. This module loads nothing.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foredraft_engine.errors import ModelError
from foredraft_engine.model.hub import hub_place
from foredraft_engine.model.model_file import model_file

ADAPTER_FILE = "adapter_config.json"
_CONFIG_FILE = "config.json"
_GGUF = ".gguf"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
NO_TOKENIZER = "it has no tokenizer; put the model's tokenizer.json next to config.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model, as transformers finds them."""

    name: str
    """What the operator gave."""
    place: str
    """The directory, or the hub id."""
    gguf: str = ""
    """The name of the GGUF file in the directory, which holds config, tokenizer and weights."""

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of transformers' `from_pretrained`."""
        return {"pretrained_model_name_or_path": self.place} | (
            {"gguf_file": self.gguf} if self.gguf else {}
        )


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Finds the files of a model.

    Args:
        name: a directory, a hub id or a GGUF file.
        revision: the revision on the hub.

    Raises:
        ModelError: there are none, or they are something else.
    """
    path = Path(name)
    if path.suffix == _GGUF and path.is_file():
        return _of_gguf(name, path)
    if path.is_dir():
        return _in_directory(name, path)
    if path.suffix == _GGUF or not is_hub_id(name):
        raise ModelError(
            f"cannot load {name!r}: there is no such directory; use a model directory, a GGUF file "
            "or a hub id"
        )
    place = hub_place(name, _CONFIG_FILE, revision)
    if adapter := adapter_config(place, revision):
        raise _adapter_alone(name, adapter)
    return Checkpoint(name, place)


def is_hub_id(name: str) -> bool:
    """Whether a name that leads to nothing here can be one of the hub."""
    path = Path(name)
    is_path = path.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") > 1
    return not (is_path or path.exists())


def adapter_config(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """Returns the config of a LoRA adapter; None if a name leads to none."""
    file = model_file(name, ADAPTER_FILE, revision)
    try:
        values = json.loads(file.read_text("utf-8")) if file else None
    except (OSError, ValueError):  # the file is broken
        return None
    return values if isinstance(values, dict) else None


def _in_directory(name: str, path: Path) -> Checkpoint:
    weights = _weights(path)
    if not weights and (adapter := adapter_config(name)):
        raise _adapter_alone(name, adapter)
    files = sorted(path.glob(f"*{_GGUF}"))
    if not weights and files:
        if len(files) > 1:
            raise ModelError(
                f"cannot load {name!r}: it has {len(files)} GGUF files; give one of them: "
                + ", ".join(file.name for file in files)
            )
        return _of_gguf(name, files[0])
    if not (path / _CONFIG_FILE).is_file():
        raise ModelError(f"cannot load {name!r}: it has no config.json; use a model directory")
    return Checkpoint(name, name)


def check_files(checkpoint: Checkpoint) -> None:
    """Checks that a directory has weights and a tokenizer.

    Raises:
        ModelError: it lacks one.
    """
    name, path = checkpoint.name, Path(checkpoint.place)
    if checkpoint.gguf or not path.is_dir():
        return
    if not _weights(path):
        raise ModelError(
            f"cannot load {name!r}: it has no weights in *.safetensors or *.gguf, the only formats "
            "that are loaded; convert them"
        )
    if not any((path / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(f"cannot load {name!r}: {NO_TOKENIZER}")


def _weights(path: Path) -> list[Path]:
    """Returns the files of safetensors that are not those of an adapter."""
    return [file for file in path.glob("*.safetensors") if not file.match("adapter_*")]


def _of_gguf(name: str, file: Path) -> Checkpoint:
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f'cannot load {name!r}: GGUF files need the package gguf: pip install "foredraft[gguf]"'
        )
    return Checkpoint(name, str(file.parent), file.name)


def _adapter_alone(name: str, adapter: dict[str, Any]) -> ModelError:
    base = adapter.get("base_model_name_or_path")
    return ModelError(
        f"cannot load {name!r}: it is a LoRA adapter: give its base model"
        + (f" ({base})" if base else "")
        + " as --model and this as --adapter"
    )
