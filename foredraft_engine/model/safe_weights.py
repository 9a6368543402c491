"""Weights come from safetensors and GGUF alone, wherever the files of a checkpoint lead.

Pickled files can be named by the index of the shards, by config.json and by the config of an
adapter, and transformers asks a service of others to convert a model of the hub that has nothing
else. All readers of pickled weights end in `torch.load`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch

from foredraft_engine.errors import ModelError

_NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"


@contextmanager
def safe_weights(name: str) -> Iterator[None]:
    """Lets nothing in this process read pickled weights for as long as a model is loaded.

    Args:
        name: the model or the adapter, for the error.
    """

    def refuse(file: Any, *_: Any, **__: Any) -> NoReturn:
        raise ModelError(
            f"cannot load {name!r}: {file} is a pickled file, and only safetensors and GGUF are "
            "loaded; convert it to safetensors"
        )

    os.environ[_NO_CONVERSION] = "1"
    load = torch.load
    torch.load = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = load
