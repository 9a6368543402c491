"""Packs the weights of a model's linear layers on a CPU once, in oneDNN's own order.

torch packs them anew in every call. For the few tokens of a round this takes twice as long as the
multiplication itself.

This module knows nothing of architectures: it replaces each `nn.Linear` and compares the model's
logits.
"""

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from foredraft_engine.errors import ModelError
from foredraft_engine.model.proof import disagreement
from foredraft_engine.model.quantization import is_plain

# The order depends on the number of tokens. That of a typical round is as good for long prompts.
_TOKENS = 6
# The smallest weight for which packing gains. Calling a packed layer takes some ten microseconds
# more, but an unpacked one in bfloat16 takes twenty to be packed, however small it is.
_LEAST_BYTES = {torch.float32: 1 << 20, torch.bfloat16: 1 << 14}
_WAY_OUT = "start with --no-packed-weights"


class PackedLinear(nn.Module):
    """An `nn.Linear` for inference, whose weight is stored in the packed order only."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _TOKENS)
        bias = None if linear.bias is None else linear.bias.detach().clone()
        # Buffers, so that a trace finds them.
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        if isinstance(x, FakeTensor):
            made: Tensor = packed_linear(x, self.weight, self.bias, self.out_features)
            return made
        return _linear(x, self.weight, self.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return y


@torch.library.custom_op("foredraft::packed_linear", mutates_args=())
def packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, out_features: int) -> Tensor:
    """Computes a packed layer in a trace, to which oneDNN's order is unknown."""
    return _linear(x, weight, bias)


@packed_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, out_features: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features)


@torch.inference_mode()
def pack_weights(model: nn.Module, least_bytes: int | None = None) -> int:
    """Packs the weights of the linear layers of a causal LM, and lets go of the unpacked ones.

    Other layers that share a weight (tied embeddings) keep the unpacked one.

    Args:
        model: a causal LM in evaluation mode.
        least_bytes: the size of the smallest weight that is packed; None for what gains.

    Returns:
        The number of layers; 0 if packing gains nothing: on an accelerator, or without oneDNN.

    Raises:
        ModelError: the model does not give the same logits afterwards.
    """
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or not _supported(parameter.dtype):
        return 0
    ids = torch.arange(1, 9)[None]
    before = model(input_ids=ids, use_cache=False).logits
    least = _LEAST_BYTES[parameter.dtype] if least_bytes is None else least_bytes
    packed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # The class itself only: a derived class does something more.
            if (
                type(child) is nn.Linear
                and is_plain(getattr(child, "weight", None))
                and child.weight.dtype == parameter.dtype
                and child.weight.nbytes >= least
            ):
                setattr(parent, name, PackedLinear(child))
                packed += 1
    if packed:
        _leave_file(model)
    _check_logits(model, ids, before)
    return packed


def _supported(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or (
        dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _leave_file(model: nn.Module) -> None:
    """Copies the weights that stay out of the file, which is mapped as long as one is in it."""
    for parameter in filter(is_plain, model.parameters()):
        parameter.data = parameter.data.clone()


def _check_logits(model: nn.Module, ids: Tensor, before: Tensor) -> None:
    try:
        after = model(input_ids=ids, use_cache=False).logits
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{type(model).__name__} does not run with packed weights: {error}; {_WAY_OUT}"
        ) from error
    if failure := disagreement(after, before):
        raise ModelError(
            f"{type(model).__name__} gives other logits with packed weights: {failure}; {_WAY_OUT}"
        )
