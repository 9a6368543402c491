"""Chooses the data type of a model's weights.

This module knows nothing of how weights are loaded.
"""

from typing import Any

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_for(name: str, config: Any, device: torch.device) -> tuple[torch.dtype, str]:
    """Returns the data type of the weights, and why it is not that of the checkpoint.

    Args:
        name: a key of `DTYPES`; "auto" for the checkpoint's own, if the device computes in it
            without emulation, and otherwise float32.
        config: the model's config.
    """
    if name != "auto":
        return DTYPES[name], ""
    own = config.dtype or config.get_text_config().dtype
    if own in DTYPES.values() and _computes_in(own, device):
        return own, ""
    reason = f"{device.type} does not compute in it without emulation" if own else "it is not said"
    said = str(own or "no data type").removeprefix("torch.")
    return torch.float32, f"the checkpoint has {said}, but {reason}; --dtype chooses another"


def _computes_in(dtype: torch.dtype, device: torch.device) -> bool:
    if dtype is torch.float32:
        return True
    if device.type == "cpu":
        return dtype is torch.bfloat16 and _has_bfloat16()
    if device.type == "cuda" and dtype is torch.bfloat16:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def _has_bfloat16() -> bool:
    """Returns whether oneDNN multiplies bfloat16 by instructions of this CPU."""
    supported = torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    # On x86 the answer is yes without the instructions, too.
    if "AVX" not in torch.backends.cpu.get_cpu_capability():
        return supported
    return supported and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
