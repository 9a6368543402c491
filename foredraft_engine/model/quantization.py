"""What a quantized checkpoint is, and what it needs that is not there.

transformers loads it by a package of the quantization, and names the package where it is missing.
"""

import re
from typing import Any

from torch import Tensor, nn

from foredraft_engine.errors import ModelError

_INSTALL = re.compile("pip install ([^`)]+)")
_WAY_OUT = "give the model that it was made from, or one quantized by compressed-tensors or torchao"


def is_plain(weight: Tensor | None) -> bool:
    """Whether a weight is a tensor of torch, and not what a package of a quantization made of one,
    which alone knows how to compute with it.
    """
    return type(weight) is nn.Parameter and type(weight.data) is Tensor


def method_of(config: Any) -> str:
    """Returns the method that a checkpoint is quantized by, empty if it is not."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return ""
    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    return str(getattr(method, "value", method) or "unknown")


def refusal(name: str, method: str, error: Exception) -> ModelError:
    """Returns what to tell about a quantized checkpoint that transformers does not load."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    checkpoint = f"cannot load {name!r}: a checkpoint quantized by {method}"
    if isinstance(error, ImportError) and (package := _missing(error, reason)):
        return ModelError(f"{checkpoint} needs the package {package}: pip install '{package}'")
    return ModelError(f"{checkpoint} does not load here ({reason.rstrip('.!')}): {_WAY_OUT}")


def _missing(error: ImportError, reason: str) -> str:
    """Returns the package that an error says is missing; empty if it does not say."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return error.name.partition(".")[0]
    told = _INSTALL.search(reason)
    words = told[1].split() if told else []
    return " ".join(word.strip("'\"") for word in words if not word.startswith("-"))
