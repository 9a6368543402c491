"""Flags that other servers of language models have, and what there is here.

Whoever comes from one of them types these first. This module knows nothing of our own flags.
"""

from collections.abc import Sequence

_ONE_DEVICE = (
    "a service runs on one device; start a target service for each GPU, and give clients all "
    "their addresses"
)
_FLAGS = {
    **dict.fromkeys(("tensor-parallel-size", "tp", "tp-size", "tensor-parallel"), _ONE_DEVICE),
    **dict.fromkeys(("pipeline-parallel-size", "pp", "pp-size", "num-shard"), _ONE_DEVICE),
    **dict.fromkeys(("data-parallel-size", "dp", "dp-size", "num-gpus"), _ONE_DEVICE),
    **dict.fromkeys(("device-map", "split-mode", "devices"), _ONE_DEVICE),
    **dict.fromkeys(("host", "port"), "it is --listen HOST:PORT here"),
    **dict.fromkeys(("max-model-len", "ctx-size", "max-total-tokens"), "it is --max-length here"),
    **dict.fromkeys(("max-num-seqs", "parallel", "max-concurrent-requests"), "it is --rows here"),
    **dict.fromkeys(("enable-lora", "lora-modules", "lora"), "--adapter merges one LoRA adapter"),
    **dict.fromkeys(("quantization", "quantize"), "a checkpoint says itself how it is quantized"),
    "gpu-memory-utilization": "it is --memory or --memory-share here, for rows alone",
    "model-path": "it is --model here",
    "speculative-config": "it is --draft here, the address of a draft service",
    "speculative-model": "it is --draft here, the address of a draft service",
    "draft-model": "it is --draft here, the address of a draft service",
    "max-num-batched-tokens": "it is --chunk-tokens here",
    "enforce-eager": "it is --compile off here",
}


def refused_flag(argv: Sequence[str]) -> str:
    """Returns what to tell about the first flag of another server; empty if there is none."""
    for word in argv:
        name = word.partition("=")[0].lstrip("-").replace("_", "-")
        if word.startswith("-") and name in _FLAGS:
            return f"there is no --{name}: {_FLAGS[name]}"
    return ""
