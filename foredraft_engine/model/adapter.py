"""Merges a LoRA adapter into the weights of its base model.

Merged weights are weights like any others, so that rows, packing and tracing know nothing of it.
"""

import importlib
import logging
import warnings
from typing import Any

from torch import nn
from transformers.utils import cached_file

from foredraft_engine.errors import ModelError
from foredraft_engine.model.checkpoint import ADAPTER_FILE, adapter_config, is_hub_id
from foredraft_engine.model.hub import hub_place
from foredraft_engine.model.safe_weights import safe_weights

log = logging.getLogger(__name__)

_METHODS = ("LORA",)
_WEIGHTS = "adapter_model.safetensors"


def find_adapter(adapter: str) -> str:
    """Returns what to load an adapter from that can be merged, before anything is loaded.

    Args:
        adapter: a directory or a hub id.

    Raises:
        ModelError: it is none, or is of another kind, or peft is not installed.
    """
    place = hub_place(adapter, ADAPTER_FILE) if is_hub_id(adapter) else adapter
    config = adapter_config(place)
    if config is None:
        raise ModelError(
            f"cannot load the adapter {adapter!r}: it has no adapter_config.json; give a directory "
            "or hub id of a LoRA adapter"
        )
    if (kind := config.get("peft_type")) not in _METHODS:
        raise ModelError(
            f"cannot load the adapter {adapter!r}: it is of the kind {kind}, and only "
            f"{', '.join(_METHODS)} is merged into weights"
        )
    weights = cached_file(place, _WEIGHTS, _raise_exceptions_for_missing_entries=False)
    if weights is None:  # peft would read pickled ones
        raise ModelError(
            f"cannot load the adapter {adapter!r}: it has no weights in {_WEIGHTS}, the only "
            "format that is loaded; save it again with peft"
        )
    try:
        importlib.import_module("peft")
    except ImportError as error:
        raise ModelError(
            f"cannot load the adapter {adapter!r}: it needs the package peft: "
            'pip install "foredraft[peft]"'
        ) from error
    return place


def merge_adapter(model: nn.Module, adapter: str) -> nn.Module:
    """Returns a model with the weights of an adapter merged into its own.

    Raises:
        ModelError: the adapter is of another base model.
    """
    peft: Any = importlib.import_module("peft")
    config = model.generation_config
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with safe_weights(adapter):
                adapted = peft.PeftModel.from_pretrained(model, adapter)
            merged: nn.Module = adapted.merge_and_unload(safe_merge=True)
        except ModelError:
            raise
        # peft, safetensors and torch raise errors of all kinds.
        except Exception as error:
            raise ModelError(
                f"cannot merge the adapter {adapter!r}: {' '.join(str(error).split())[:300]}; is "
                "it of this base model?"
            ) from error
    # peft leaves a part that it finds no weights for without effect.
    for warning in told:
        if "missing adapter keys" in str(warning.message):
            raise ModelError(
                f"cannot merge the adapter {adapter!r}: its weights are not those that its "
                "adapter_config.json names; is it of this base model?"
            )
    merged.generation_config = config
    log.info("the adapter %s is merged", adapter)
    return merged
