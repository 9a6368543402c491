"""Measures the bundled pair: losses, and the mean acceptance length by a plain speculative loop of
its own.

    python demo/measure.py
    python demo/measure.py --complete bisect heapq cmd

Every round drafts just five tokens, and nothing comes from the text itself. The loop recomputes
everything in each round: it is slow and simple, so that the services' figures can be held against
it.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    logging,
)

from demo import corpus
from demo.learning import cross_entropy

Prompts = dict[str, list[Tensor]]

PROMPTS = Path(__file__).parent / "prompts.json"
DRAFTED = 5
PROMPT, NEW = 96, 64
TEMPERATURES = (0.0, 0.7)


class Pair(NamedTuple):
    target: PreTrainedModel
    draft: PreTrainedModel


class Drawn(NamedTuple):
    """A text with its prompt, the number of drafted tokens in it, and the rounds it took."""

    text: Tensor
    accepted: int
    rounds: int


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    if args.complete:
        complete(args.models, args.complete, args.seed)
        return
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(args.models / "target")
    pair = load_pair(args.models)
    training, held_out = corpus.split()
    seen, unseen = (
        corpus.encode(tokenizer, list(texts.values())) for texts in (training, held_out)
    )
    for name, net in pair._asdict().items():
        print(f"{name}: {sum(p.numel() for p in net.parameters())} parameters, ", end="")
        print(f"loss {cross_entropy(net, seen, every=40):.3f} in training text, ", end="")
        print(f"{cross_entropy(net, unseen):.3f} held out", flush=True)
    report_acceptance(pair, prompts_of(tokenizer, held_out, args.places), args.seed)


def complete(models: Path, names: Sequence[str], seed: int) -> None:
    """Prints how the pair goes on with prompts of prompts.json, at every temperature."""
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(models / "target")
    pair = load_pair(models)
    texts = {
        entry["name"]: entry["text"] for entry in json.loads(PROMPTS.read_text(encoding="utf-8"))
    }
    for name, temperature in product(names, TEMPERATURES):
        # The end token that `encode` puts at the end would say that the text is over.
        prompt, generator = (
            corpus.encode(tokenizer, [texts[name]])[:-1],
            torch.Generator().manual_seed(seed),
        )
        completed = speculate(pair, prompt, temperature, generator).text
        print(f"--- {name}, temperature {temperature}\n{texts[name]}", end="")
        print(f"»{tokenizer.decode(completed[len(prompt) :])}", flush=True)


def report_acceptance(pair: Pair, prompts: Prompts, seed: int) -> None:
    """Prints the mean acceptance length at every temperature."""
    for temperature in TEMPERATURES:
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            speculate(pair, prompt, temperature, generator)
            for row in prompts.values()
            for prompt in row
        ]
        varied = [d for d in drawn if not _loops(d.text)]
        print(
            f"temperature {temperature}: mean acceptance length {_length(drawn)} over "
            f"{len(drawn)} prompts, ",
            end="",
        )
        print(
            f"{_length(varied)} over the {len(varied)} whose texts do not end in a loop", flush=True
        )


@torch.inference_mode()
def speculate(pair: Pair, prompt: Tensor, temperature: float, generator: torch.Generator) -> Drawn:
    """Goes on with the prompt by NEW tokens, or by the few more that the last round brings."""
    text, accepted, rounds = prompt, 0, 0
    while len(text) < len(prompt) + NEW:
        start, drafted = len(text), []
        for _ in range(DRAFTED):
            drafted.append(_distributions(pair.draft, text, temperature)[-1])
            text = torch.cat([text, torch.multinomial(drafted[-1], 1, generator=generator)])
        wanted = _distributions(pair.target, text, temperature)[start - 1 :]
        kept = 0
        while kept < DRAFTED:
            token = text[start + kept]
            # A token is kept with probability min(1, wanted / drafted).
            if torch.rand((), generator=generator) * drafted[kept][token] >= wanted[kept][token]:
                break
            kept += 1
        rest = (wanted[kept] - drafted[kept]).clamp(min=0) if kept < DRAFTED else wanted[kept]
        text = torch.cat([text[: start + kept], torch.multinomial(rest, 1, generator=generator)])
        accepted, rounds = accepted + kept, rounds + 1
    return Drawn(text, accepted, rounds)


def _length(drawn: list[Drawn]) -> str:
    """Returns the mean acceptance length: tokens for each pass of the target."""
    return (
        f"{1 + sum(d.accepted for d in drawn) / sum(d.rounds for d in drawn):.2f}" if drawn else "-"
    )


def _loops(text: Tensor) -> bool:
    """Returns whether the text ends by saying the same few tokens over and over, which any draft
    foresees.
    """
    tail = text[-32:]
    return any(torch.equal(tail[period:], tail[:-period]) for period in range(1, 13))


def _distributions(net: PreTrainedModel, text: Tensor, temperature: float) -> Tensor:
    """Returns the distributions after each place of the text, float32 [n, vocabulary]; one-hot at
    temperature 0.
    """
    logits: Tensor = net(text[None], use_cache=False).logits[0].float()
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    return (logits / temperature).softmax(-1)


def prompts_of(
    tokenizer: PreTrainedTokenizerFast, texts: Mapping[str, str], places: int
) -> Prompts:
    """Returns the beginning of each text, then stretches from inside it at even distances."""
    prompts: Prompts = {}
    for name, text in texts.items():
        ids = corpus.encode(tokenizer, [text])
        step = (len(ids) - PROMPT) // places
        prompts[name] = [ids[place * step : place * step + PROMPT] for place in range(places)]
    return prompts


def load_pair(models: Path) -> Pair:
    """Loads both models of a folder, in fp32."""
    nets = (
        AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32)
        for name in Pair._fields
    )
    return Pair(*(net.eval() for net in nets))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the bundled pair.")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument("--places", type=int, default=4, help="prompts from each held-out module")
    parser.add_argument(
        "--complete", nargs="*", default=[], help="go on with these prompts of prompts.json"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
