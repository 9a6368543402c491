"""transformers' own `generate` as a worker: plain, with an assistant model, with prompt lookup.

It counts forward passes with hooks. This module knows nothing of foredraft but its packed weights:
where the model is given them, the difference that is left is how the two generate, and not how they
multiply.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.generation.streamers import BaseStreamer

from benchmarks.runs import Assist, Run, Sampling
from benchmarks.widening import load_stock
from benchmarks.worker import serve
from foredraft_engine.model.packed_weights import pack_weights


class _Clock(BaseStreamer):  # type: ignore[misc]
    """Notes when the first tokens came."""

    def __init__(self) -> None:
        self._puts = 0
        self.began = time.perf_counter()
        self.first_s, self.first_tokens = 0.0, 0

    def put(self, value: Tensor) -> None:
        self._puts += 1
        if self._puts == 2:  # the first call brings the prompt
            self.first_s, self.first_tokens = time.perf_counter() - self.began, value.numel()

    def end(self) -> None:
        pass


class InProcess:
    """The target, and a draft if it can be run, in this process as transformers takes them."""

    def __init__(
        self, target: Path, draft: Path | None = None, packed_weights: bool = False
    ) -> None:
        self.target, self._draft = load_stock(target), load_stock(draft) if draft else None
        self._widths, self._draft_widths = _counted(self.target), list[int]()
        if self._draft is not None:
            self._draft_widths = _counted(self._draft)
        for model in (self.target, self._draft):
            if model is None:
                continue
            model.generation_config.eos_token_id = None  # every text has full length
            if packed_weights:
                pack_weights(model)

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        assist, sampling = Assist(**job["assist"]), Sampling(**job["sampling"])
        prompt = torch.tensor([job["ids"]])
        self._widths.clear()
        self._draft_widths.clear()
        torch.manual_seed(sampling.seed)
        fields = {**_sampled(sampling), **self._assisted(assist)}
        clock = _Clock()
        text = self.target.generate(
            prompt, attention_mask=torch.ones_like(prompt), streamer=clock, **fields
        )
        whole_s = time.perf_counter() - clock.began
        proposed = [self._widths[0] - prompt.shape[1], *(width - 1 for width in self._widths[1:])]
        run = Run(
            ids=tuple(text[0, prompt.shape[1] :].tolist()),
            whole_s=whole_s,
            first_s=clock.first_s,
            first_tokens=clock.first_tokens,
            rounds=len(proposed),
            drafts=sum(map(bool, proposed)),
            proposed=sum(proposed),
            draft_forwards=len(self._draft_widths),
        )
        return asdict(run)

    def _assisted(self, assist: Assist) -> dict[str, Any]:
        if assist.kind == "model":
            assert self._draft is not None, "the worker was started without a draft"
            # transformers reads this from the assistant's config alone and ignores arguments of the
            # call.
            config = self._draft.generation_config
            config.num_assistant_tokens, config.num_assistant_tokens_schedule = assist.k, "constant"
            config.assistant_confidence_threshold = assist.threshold
            return {"assistant_model": self._draft}
        return {"prompt_lookup_num_tokens": assist.k} if assist.kind == "lookup" else {}


def _sampled(sampling: Sampling) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        fields |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    return fields


def _counted(model: nn.Module) -> list[int]:
    """Returns a list that grows by the width in tokens of each forward pass of the model."""
    widths: list[int] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        widths.append(kwargs["input_ids"].shape[1])

    model.register_forward_pre_hook(note, with_kwargs=True)
    return widths


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--packed-weights", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve(InProcess(args.target, args.draft, args.packed_weights).answer)
