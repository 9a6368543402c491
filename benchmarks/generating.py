"""transformers' own `generate` as a worker, for any strategy: a job names prompts and parameters.

It also runs under transformers 4.55.4, which has strategies that later versions lack. This module
knows nothing of foredraft.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.worker import serve

_PAD = 1


class Generating:
    """The target and the draft in this process, as transformers takes them."""

    def __init__(self, target: Path, draft: Path) -> None:
        self._target = AutoModelForCausalLM.from_pretrained(
            target, torch_dtype=torch.float32
        ).eval()
        self._draft = AutoModelForCausalLM.from_pretrained(draft, torch_dtype=torch.float32).eval()

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Generates for all prompts as one padded batch."""
        fields = dict(job["fields"])
        if (k := fields.pop("num_assistant_tokens", None)) is not None:
            config = self._draft.generation_config
            config.num_assistant_tokens, config.num_assistant_tokens_schedule = k, "constant"
            config.assistant_confidence_threshold = 0.0
            fields["assistant_model"] = self._draft
        prompts = job["prompts"]
        longest = max(map(len, prompts))
        ids = torch.tensor([[_PAD] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        torch.manual_seed(job["seed"])
        began = time.perf_counter()
        with torch.inference_mode():
            texts = self._target.generate(
                ids, attention_mask=mask, pad_token_id=_PAD, eos_token_id=None, **fields
            )
        whole_s = time.perf_counter() - began
        return {"whole_s": whole_s, "ids": texts[:, longest:].tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--draft", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve(Generating(args.target, args.draft).answer)
