"""transformers in a process of its own: many prompts as one padded batch, or by its continuous
batching.

Nothing is served and nothing streamed, which is less work than a server has. This module knows
nothing of foredraft.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from benchmarks.worker import serve

# By default its cache takes most of the memory, and a step on a CPU is three times as long for it.
_POOL = {"num_blocks": 20, "max_batch_tokens": 1600}


class Batches:
    """A model as transformers takes it."""

    def __init__(self, folder: Path, dtype: str, attention: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention
        ).eval()
        self._model.generation_config.eos_token_id = None
        self._pad = self._model.generation_config.pad_token_id or 0

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Generates for all prompts; a batch is padded on the left."""
        prompts, new_tokens = job["prompts"], job["new_tokens"]
        began_s = time.perf_counter()
        make = self._continuously if job["way"] == "continuous" else self._padded
        ids = make(prompts, new_tokens)
        whole_s = time.perf_counter() - began_s
        if {len(one) for one in ids} != {new_tokens}:
            raise RuntimeError(f"wanted {new_tokens} tokens, got {[len(one) for one in ids]}")
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return {"whole_s": whole_s, "firsts_s": [], "token_s": None, "texts": texts}

    def _padded(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        texts = self._model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=self._pad,
        )
        made: list[list[int]] = texts[:, longest:].tolist()
        return made

    def _continuously(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        config = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1)
        results = self._model.generate_batch(
            inputs=prompts,
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(**_POOL),
            progress_bar=False,
        )
        by_prompt = {tuple(one.prompt_ids): one.generated_tokens for one in results.values()}
        return [list(by_prompt[tuple(prompt)]) for prompt in prompts]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve(Batches(args.model, args.dtype, args.attention).answer)
