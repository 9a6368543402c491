"""Makes a model costly without changing what it computes: its MLPs get neurons whose output has
weight 0.

A worker on one core finds the number of neurons at which a forward pass takes a given time. This
module knows nothing of benchmarks.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel
from transformers.cache_utils import DynamicCache

from benchmarks.worker import serve
from foredraft_engine.feed import Feed
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import prove_rows

CACHED, TOKENS = 128, 6
"""The timed forward pass: the number of tokens that the row holds, and of new tokens."""
_FIRST_TRY, _TRIES, _STEP = 28672, 6, 1024
_CHECKED_TOKENS = 24
_REPETITIONS = 30


def widen(source: Path, folder: Path, intermediate_size: int, seed: int = 0) -> None:
    """Copies a Llama with wider MLPs. The copy has no end-of-text token, so that every text has
    full length.
    """
    narrow = load_stock(source)
    config = AutoConfig.from_pretrained(source, dtype=torch.float32)
    config.intermediate_size = intermediate_size
    wide = LlamaForCausalLM(config)
    weights, generator = narrow.state_dict(), torch.Generator().manual_seed(seed)
    for name, weight in wide.state_dict().items():
        weight.copy_(_widened(name, weights[name], weight.shape, generator))
    wide.generation_config = narrow.generation_config
    wide.generation_config.eos_token_id = None
    wide.save_pretrained(folder)
    for file in source.glob("tokenizer*"):
        shutil.copy(file, folder)


def _widened(name: str, weight: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Returns weights with new neurons. These fire as the old ones do, since a kernel could skip
    zeros, and reach the output by zeros.
    """
    if weight.shape == shape:
        return weight
    if name.endswith("down_proj.weight"):
        return torch.cat([weight, weight.new_zeros(shape[0], shape[1] - weight.shape[1])], dim=1)
    extra = torch.randn(shape[0] - weight.shape[0], shape[1], generator=generator)
    return torch.cat([weight, extra * weight.std()])


@torch.inference_mode()
def difference(one: PreTrainedModel, other: PreTrainedModel, ids: list[int]) -> float:
    """Returns the largest difference between the logits of two models.

    Raises:
        ValueError: the two go on greedily with different tokens.
    """
    prompt = torch.tensor([ids])
    greedy = {
        "do_sample": False,
        "max_new_tokens": _CHECKED_TOKENS,
        "min_new_tokens": _CHECKED_TOKENS,
    }
    texts = [
        m.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy) for m in (one, other)
    ]
    if not torch.equal(*texts):
        raise ValueError("the widened model says something else")
    return float((one(input_ids=texts[0]).logits - other(input_ids=texts[0]).logits).abs().max())


@torch.inference_mode()
def stock_forward_s(model: PreTrainedModel) -> float:
    """Returns the fastest forward pass of the model as transformers runs it, in seconds."""
    cache = DynamicCache(config=model.config)
    model(torch.arange(CACHED)[None], past_key_values=cache)

    def forward() -> None:
        model(torch.arange(TOKENS)[None], past_key_values=cache)
        cache.crop(-TOKENS)

    return _fastest_s(forward)


@torch.inference_mode()
def forward_s(model: PreTrainedModel) -> float:
    """Returns the same in foredraft's own rows; the model's weights are packed from then on."""
    pack_weights(model)
    rows = prove_rows(model, model.config, 2 * CACHED).make(1, 2 * CACHED)
    rows.forward([Feed(0, 0, range(CACHED))], [0])
    return _fastest_s(lambda: rows.forward([Feed(0, CACHED, range(TOKENS))], [TOKENS]))


def _fastest_s(forward: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        forward()
        times.append(time.perf_counter() - began)
    return min(times)


def find_size(source: Path, folder: Path, least_s: float, most_s: float) -> int:
    """Widens into the folder until a forward pass takes a time between the two; returns the
    intermediate size.

    Raises:
        ValueError: no size was found; the machine is not quiet enough.
    """
    own_s, size = forward_s(load_stock(source)), _FIRST_TRY
    for _ in range(_TRIES):
        widen(source, folder, size)
        size_s = forward_s(load_stock(folder))
        if least_s <= size_s <= most_s:
            return size
        # The time beyond that of the narrow model grows with the neurons.
        grown = ((least_s + most_s) / 2 - own_s) / max(size_s - own_s, 1e-4) * size
        size = max(_STEP, round(grown / _STEP) * _STEP)
    raise ValueError(
        f"no width takes {least_s * 1e3:.0f} to {most_s * 1e3:.0f} ms: is the machine busy?"
    )


def load_stock(folder: Path) -> PreTrainedModel:
    """Loads a model as transformers runs it, in fp32."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    source, folder = Path(job["source"]), Path(job["folder"])
    size = job["size"]
    if size:
        widen(source, folder, size)
    else:
        size = find_size(source, folder, job["least_s"], job["most_s"])
    narrow, wide = load_stock(source), load_stock(folder)
    return {
        "intermediate_size": size,
        "parameters": wide.num_parameters(),
        "difference": max(difference(narrow, wide, ids) for ids in job["prompts"]),
        "stock_forward_s": stock_forward_s(wide),
        "forward_s": forward_s(wide),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    serve(_answer)
