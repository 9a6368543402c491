"""The last hidden states of a model's forward pass.

This module knows nothing of rows.
"""

from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from foredraft_engine.errors import ModelError


class LastHidden:
    """Keeps the last input of the model's head, before it is cut to the scored tokens."""

    _of: ClassVar["WeakKeyDictionary[nn.Module, LastHidden]"] = WeakKeyDictionary()

    def __init__(self, model: nn.Module) -> None:
        self.last = torch.empty(1, 0, 0)  # [1, n, size]
        _body(model).register_forward_hook(self._keep)

    @classmethod
    def of(cls, model: nn.Module) -> "LastHidden":
        """Returns the one instance of a model, whose rows may be made several times."""
        if model not in cls._of:
            cls._of[model] = cls(model)
        return cls._of[model]

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.last = output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]


def _body(model: nn.Module) -> nn.Module:
    """Returns the part of a model that is all but its head.

    A model for text alone may be one part of a larger one, as with Llama 4: the name of its base
    model is then that of the larger one's part, and leads to the model itself.
    """
    base: object = getattr(model, "base_model", None)
    if isinstance(base, nn.Module) and base is not model:
        return base
    parts: list[nn.Module] = [p for p in model.children() if isinstance(p, PreTrainedModel)]
    if len(parts) != 1:
        raise ModelError(f"{type(model).__name__} cannot be served: it names no base model")
    return parts[0]
