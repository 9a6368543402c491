"""The golden outputs of transformers 4.55.4, with their models and the processors that they ask
for.

`golden/make.py` says how they were made.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.generation import logits_process as hf

from tests.models import bundled, stock
from tests.strategies.golden.tiny import tiny

Case = dict[str, Any]


@cache
def fixture(name: str) -> dict[str, Any]:
    """Returns the fixture "diverse" or "contrastive": `cases`, and `probes`, the first logits after
    `prompts` in each model.
    """
    found: dict[str, Any] = json.loads(
        (Path(__file__).parent / "golden" / f"{name}.json").read_text()
    )
    return found


@cache
def golden_model(name: str) -> nn.Module:
    return tiny() if name == "tiny" else stock(bundled(name).module)


def name_of(case: Case) -> str:
    left_out = (
        "prompt",
        "sequences",
        "scores",
        "stops",
        "max_new_tokens",
        "pad_token_id",
        "eos_token_id",
    )
    return ",".join(f"{key}={value}" for key, value in case.items() if key not in left_out)


def processors(case: Case) -> Callable[[Sequence[tuple[int, ...]], Tensor], Tensor]:
    """Returns the processors of a case, by transformers' own classes and in its order."""
    length = len(case["prompt"])
    chosen: list[Any] = []
    if "repetition_penalty" in case:
        chosen.append(hf.RepetitionPenaltyLogitsProcessor(case["repetition_penalty"]))
    if "no_repeat_ngram_size" in case:
        chosen.append(hf.NoRepeatNGramLogitsProcessor(case["no_repeat_ngram_size"]))
    if "min_new_tokens" in case:
        chosen.append(
            hf.MinNewTokensLengthLogitsProcessor(
                length, case["min_new_tokens"], case["eos_token_id"]
            )
        )
    if "forced_eos_token_id" in case:
        limit = length + case["max_new_tokens"]
        chosen.append(hf.ForcedEOSTokenLogitsProcessor(limit, case["forced_eos_token_id"]))

    def process(texts: Sequence[tuple[int, ...]], scores: Tensor) -> Tensor:
        ids = torch.tensor([[*case["prompt"], *text] for text in texts])
        for processor in chosen:
            scores = processor(ids, scores)
        return scores

    return process


def ends_of(case: Case) -> Callable[[tuple[int, ...]], bool]:
    """Returns a function that says whether a text ends: by EOS, by a criterion other than EOS
    (`stops`), or by its length.
    """
    last = {*case["eos_token_id"], *case["stops"]}
    return lambda text: text[-1] in last or len(text) == case["max_new_tokens"]
