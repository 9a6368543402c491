"""Golden outputs of diverse beam search and contrastive search, made with transformers 4.55.4,
which still had them.

From the repository's root, in an environment of its own:

    pip install torch==2.13.0 'transformers==4.55.4' 'huggingface-hub<1.0' 'tokenizers<0.22'
    python -m tests.strategies.golden.make

writes `diverse.json` and `contrastive.json` beside this file. Everything is computed in float32, on
the CPU, with one thread. A case whose tokens change when the model computes in float64 hangs on
rounding alone: it is left out. Knows nothing of the project's own searches.
"""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from tests.strategies.golden.tiny import VOCAB, tiny

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[2] / "demo" / "models" / "target"
PROMPTS = {
    "tiny": [[5, 9, 300, 5, 9, 17], [201, 44, 7], [3, 3, 350, 12, 90, 118, 3, 3]],
    "target": [
        [317, 728, 9, 66, 13, 305, 300, 273, 330],
        [48, 79, 306, 1031, 268, 269, 712, 13, 1464, 1120, 269],
        [56, 70, 315, 432, 350, 295, 327, 289, 408, 85, 373],
    ],
}
# Of the target: its end, a full stop, a newline and a bracket; several, so that hypotheses end
# early.
ENDS = {
    "tiny": [[0], list(range(3, VOCAB, 40)), list(range(1, VOCAB, 6))],
    "target": [[0], [15, 0], [0, 15, 200, 10]],
}
PROCESSORS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "min_new_tokens": 6},
]
SHAPES = [(4, 2), (4, 4), (6, 2), (6, 3), (6, 6)]
NEW_TOKENS, NEW_TOKENS_CONTRASTIVE, PROBED = 20, 32, 64


class LastTokenIn(StoppingCriteria):
    """Stops by the last token, as a criterion other than EOS."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = torch.tensor(ids)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.isin(input_ids[:, -1], self.ids)


def diverse_cases() -> Iterator[dict[str, Any]]:
    """Every shape with every length penalty and every way of stopping early; the rest is drawn."""
    draw = random.Random(0)
    for model, (beams, groups), length_penalty, early_stopping in itertools.product(
        PROMPTS, SHAPES, (0.0, 1.0, 2.0, -1.0), (False, True, "never")
    ):
        drawn = {
            "num_beams": beams,
            "num_beam_groups": groups,
            "diversity_penalty": draw.choice([0.5, 1.0, 5.0]),
            "length_penalty": length_penalty,
            "early_stopping": early_stopping,
            "num_return_sequences": draw.randint(1, beams),
            "eos_token_id": draw.choice(ENDS[model]),
            **draw.choice(PROCESSORS),
        }
        drawn["pad_token_id"] = draw.choice([drawn["eos_token_id"][0], 2])
        stops = (
            draw.sample(range(VOCAB), VOCAB // 2) if model == "tiny" and draw.random() < 0.2 else []
        )
        prompt = draw.choice(PROMPTS[model])
        if model == "tiny" or draw.random() < 0.35:  # the target is slow: some will do
            yield {
                "model": model,
                "prompt": prompt,
                "stops": stops,
                "max_new_tokens": NEW_TOKENS,
                **drawn,
            }


def ending_cases() -> Iterator[dict[str, Any]]:
    """So many ends and so little penalty that it matters when a group is held to be over."""
    for (beams, groups), length_penalty, early_stopping, prompt in itertools.product(
        [(4, 2), (6, 2), (8, 2)], (-1.0, 1.0, 2.0), (False, "never"), PROMPTS["tiny"]
    ):
        yield {
            "model": "tiny",
            "prompt": prompt,
            "stops": [],
            "max_new_tokens": NEW_TOKENS,
            "num_beams": beams,
            "num_beam_groups": groups,
            "diversity_penalty": 0.5,
            "length_penalty": length_penalty,
            "early_stopping": early_stopping,
            "num_return_sequences": beams,
            "eos_token_id": ENDS["tiny"][-1],
            "pad_token_id": 2,
        }


def contrastive_cases() -> Iterator[dict[str, Any]]:
    """Every penalty with every number of candidates; the rest is drawn."""
    draw = random.Random(0)
    for model, alpha, top_k, again in itertools.product(
        PROMPTS, (0.2, 0.6, 0.9), (2, 4, 8), range(3)
    ):
        drawn = {
            "penalty_alpha": alpha,
            "top_k": top_k,
            "eos_token_id": draw.choice(ENDS[model][:2]),
            "pad_token_id": 2,
            **draw.choice(PROCESSORS),
            **draw.choice([{}, {}, {"forced_eos_token_id": 0}]),
        }
        stops = draw.sample(range(VOCAB), 8) if model == "tiny" and draw.random() < 0.3 else []
        prompt = PROMPTS[model][again]
        if model == "tiny" or again == 0:
            yield {
                "model": model,
                "prompt": prompt,
                "stops": stops,
                "max_new_tokens": NEW_TOKENS_CONTRASTIVE,
                **drawn,
            }


def generate(
    model: Any, case: dict[str, Any], scored: bool = True
) -> tuple[list[list[int]], list[float]]:
    """The generated ids of all returned sequences, padded as they come, and the scores of beams if
    `scored`.
    """
    parameters = {
        key: value for key, value in case.items() if key not in ("model", "prompt", "stops")
    }
    ids = torch.tensor([case["prompt"]])
    criteria = StoppingCriteriaList([LastTokenIn(case["stops"])] if case["stops"] else [])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        stopping_criteria=criteria,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=scored,
        **parameters,
    )
    scores = getattr(out, "sequences_scores", None)
    return out.sequences[:, ids.shape[1] :].tolist(), [] if scores is None else scores.tolist()


def golden(models: dict[str, nn.Module], cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases with what came of them, less those that hang on rounding."""
    outputs = [generate(models[case["model"]].float(), case) for case in cases]
    exact = [generate(models[case["model"]].double(), case, scored=False)[0] for case in cases]
    kept = [
        {**case, "sequences": sequences, "scores": scores}
        for case, (sequences, scores), other in zip(cases, outputs, exact, strict=True)
        if sequences == other
    ]
    print(f"{len(kept)} of {len(cases)} cases kept")
    return kept


def write(name: str, models: dict[str, nn.Module], cases: list[dict[str, Any]]) -> None:
    """One case per line."""
    probes = {
        key: model.float()(torch.tensor(PROMPTS[key][:1])).logits[0, -1, :PROBED].tolist()
        for key, model in models.items()
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in golden(models, cases))
    head = {"transformers": transformers.__version__, "torch": torch.__version__}
    text = json.dumps(
        {**head, "prompts": {key: PROMPTS[key][0] for key in models}, "probes": probes}
    )
    (HERE / name).write_text(f'{text[:-1]},\n"cases": [\n{lines}\n]}}\n')


@torch.inference_mode()
def main() -> None:
    assert transformers.__version__ == "4.55.4", "golden outputs are those of transformers 4.55.4"
    torch.set_num_threads(1)
    models = {"tiny": tiny(), "target": AutoModelForCausalLM.from_pretrained(TARGET).eval()}
    write("diverse.json", models, [*diverse_cases(), *ending_cases()])
    write("contrastive.json", models, list(contrastive_cases()))


if __name__ == "__main__":
    main()
