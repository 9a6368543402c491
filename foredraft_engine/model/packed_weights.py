"""Linear layers of a model on a CPU with their weights packed once, in oneDNN's own order.

torch packs them anew in every call: for the few tokens of a round that takes twice as long as the
multiplication itself. Knows nothing of architectures: it replaces what is an `nn.Linear`, and
compares the model's logits.
"""

import torch
from torch import Tensor, nn

from foredraft_engine.errors import ModelError
from foredraft_engine.model.proof import disagreement

# The order depends on the number of tokens; that of a round serves long prompts just as well.
_TOKENS = 6
# A packed layer is called by a way that takes some ten microseconds more: what is smaller would
# lose.
_LEAST_BYTES = 1 << 20
_WAY_OUT = "start with --no-packed-weights"


class PackedLinear(nn.Module):
    """An `nn.Linear` for inference, whose weight exists in the packed order alone."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _TOKENS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


@torch.inference_mode()
def pack_weights(model: nn.Module, least_bytes: int = _LEAST_BYTES) -> int:
    """Replaces the linear layers of a causal LM in evaluation mode, those whose weights have at
    least so many bytes.

    A weight that other layers share (tied embeddings) stays for them as it is.

    Returns:
        How many layers; 0 where there is nothing to gain: on an accelerator, or without oneDNN.

    Raises:
        ModelError: the model is not the same afterwards.
    """
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or not _supported(parameter.dtype):
        return 0
    ids = torch.arange(1, 9)[None]
    before = model(input_ids=ids, use_cache=False).logits
    packed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # Just that class: what is derived from it does something more.
            if (
                type(child) is nn.Linear
                and child.weight.dtype == parameter.dtype
                and child.weight.nbytes >= least_bytes
            ):
                setattr(parent, name, PackedLinear(child))
                packed += 1
    _compare(model, ids, before)
    return packed


def _supported(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or (
        dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _compare(model: nn.Module, ids: Tensor, before: Tensor) -> None:
    try:
        after = model(input_ids=ids, use_cache=False).logits
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{type(model).__name__} does not run with packed weights: {error}; {_WAY_OUT}"
        ) from error
    if failure := disagreement(after, before):
        raise ModelError(
            f"{type(model).__name__} with packed weights is not itself: {failure}; {_WAY_OUT}"
        )
