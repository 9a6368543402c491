"""Trains the draft of SmolLM2-135M-Instruct: two of the target's layers, some of its tokens.

    python demo/train_draft.py

The target talks to itself, and the draft learns its distribution over the tokens that the draft
knows. Everything follows from the seed. What is done is kept in `build/smollm2-draft`, and a run
that was stopped goes on from there.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM, logging

from demo import acceptance, small_draft
from demo.conversations import Conversations, answers_to, conversations
from demo.instructions import HELD_OUT
from demo.real_model import ROOT, smollm2
from foredraft_engine.model.draft_vocabulary import DraftVocabulary

_KEPT_EVERY = 20
_FIRST_FILES, _FIRST_STEPS = 2, 400  # the others join after so many steps
# Two layers of thirty say little at first, and should not say it as loudly.
_LESS_SURE = 0.25
_SAMPLED_EVERY = 3  # places of answers, for the frequency of tokens


@dataclass(frozen=True)
class Course:
    """The training of the draft."""

    steps: int
    batch: int
    """The tokens of a step, about."""
    rate: float
    seed: int
    warm: int = 15
    falling: float = 0.3
    """The part of the steps, at the end, in which the rate falls to nothing."""

    def rate_at(self, step: int) -> float:
        """Returns the learning rate: a rise, a plateau that does not depend on the end, a fall."""
        left = (self.steps - step) / max(1.0, self.falling * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warm, left)


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    source = args.target or smollm2()
    target = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    args.work.mkdir(parents=True, exist_ok=True)
    files = [
        _spoken(args.work / f"{number:04d}.safetensors", target, tokenizer, number, args.seed)
        for number in range(args.files)
    ]
    texts = [Conversations.load(file) for file in files]
    known = known_tokens(texts[:_FIRST_FILES], target, args.known, tokenizer.all_special_ids)
    own_ids = torch.from_numpy(DraftVocabulary(known.numpy(), len(tokenizer)).own_ids)
    texts = [replace(text, ids=own_ids[text.ids.long()]) for text in texts]
    draft = small_draft.begun_from(target, known, args.layers)
    draft.model.norm.weight.data.mul_(_LESS_SURE)
    course = Course(args.steps, args.batch, args.rate, args.seed)
    learn(draft, target.model.embed_tokens.weight[known], texts, course, args.work)
    small_draft.save(draft, args.out, known, tokenizer)
    read = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()
    held_out = answers_to(target, tokenizer, HELD_OUT, args.places, args.seed)
    print(acceptance.report(read, own_ids, known, held_out))


def _spoken(path: Path, target: LlamaForCausalLM, tokenizer: Any, number: int, seed: int) -> Path:
    """Returns the file of conversations of a number, which it makes if it is not there."""
    if not path.exists():
        began = time.monotonic()
        spoken = conversations(target, tokenizer, number, seed)
        spoken.save(path)
        share = spoken.answers.float().mean().item()
        print(
            f"{path.name}: {spoken.ids.numel()} tokens, {share:.0%} of them in answers, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
    return path


@torch.no_grad()
def known_tokens(
    texts: Sequence[Conversations], target: LlamaForCausalLM, count: int, special: Sequence[int]
) -> Tensor:
    """Returns the ids that the draft will know, int64 [n]: those that the target would say most
    often in answers, by its probabilities, and the special ones.
    """
    table = target.model.embed_tokens.weight.bfloat16()
    expected = torch.zeros(len(table))
    for text in texts:
        is_asked = text.answers[:, 1:]
        for hidden in text.hidden[:, :-1][is_asked][::_SAMPLED_EVERY].split(512):
            expected += F.linear(hidden, table).float().softmax(-1).sum(0)
    share = expected.sort(descending=True).values[:count].sum() / expected.sum()
    print(f"{count} tokens are known, {share:.1%} of the target's answers", flush=True)
    expected[list(special)] = torch.inf
    return expected.topk(count).indices.sort().values


def learn(
    draft: LlamaForCausalLM,
    head: Tensor,
    texts: Sequence[Conversations],
    course: Course,
    work: Path,
) -> None:
    """Minimises the divergence from the target's distribution over known tokens, in answers.

    Args:
        head: the target's embeddings of the known tokens, [n, width].
    """
    draft.model.embed_tokens.requires_grad_(False)  # there is too little text to learn it from
    learnt = [weight for weight in draft.parameters() if weight.requires_grad]
    optim = torch.optim.AdamW(learnt, lr=course.rate, betas=(0.9, 0.95), fused=True)
    kept, first = work / "training.pt", 0
    if kept.exists():
        state = torch.load(kept)
        draft.load_state_dict(state["draft"])
        optim.load_state_dict(state["optim"])
        first = state["step"]
    began = time.monotonic()
    draft.set_attn_implementation("eager")  # its gradient is faster for texts of this length
    draft.train()
    for step in range(first, course.steps):
        optim.param_groups[0]["lr"] = course.rate_at(step)
        text = _batch(texts[:_FIRST_FILES] if step < _FIRST_STEPS else texts, course, step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = _cross_entropy(draft, head, text)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optim.step()
        optim.zero_grad(set_to_none=True)
        done = step + 1
        if done % _KEPT_EVERY == 0 or done == course.steps:
            state = {"draft": draft.state_dict(), "optim": optim.state_dict(), "step": done}
            torch.save(state, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
            entropy = torch.special.entr(_wanted(head.bfloat16(), text)).sum(-1).mean()
            kl, spent_s = (loss - entropy).item(), time.monotonic() - began
            print(f"step {done}: KL {kl:.3f}, {spent_s:.0f} s", flush=True)
    draft.set_attn_implementation("sdpa")
    draft.eval()


def _batch(texts: Sequence[Conversations], course: Course, step: int) -> Conversations:
    """Returns random conversations of one file; which ones follows from seed and step."""
    choice = torch.Generator().manual_seed(course.seed * 1_000_003 + step)
    sizes = torch.tensor([float(text.ids.numel()) for text in texts])
    text = texts[int(torch.multinomial(sizes, 1, generator=choice))]
    count = max(1, course.batch // text.ids.shape[1])
    rows = torch.randperm(len(text.ids), generator=choice)[:count]
    return Conversations(text.ids[rows], text.hidden[rows], text.answers[rows])


def _cross_entropy(draft: LlamaForCausalLM, head: Tensor, text: Conversations) -> Tensor:
    """Returns that of the draft's distribution and the target's, in nats per token."""
    hidden = draft.model(text.ids[:, :-1], use_cache=False).last_hidden_state
    weight = draft.model.embed_tokens.weight[: len(head)]
    given = F.linear(hidden[text.answers[:, 1:]], weight).float()
    return F.cross_entropy(given, _wanted(head, text))


@torch.no_grad()
def _wanted(head: Tensor, text: Conversations) -> Tensor:
    """Returns the target's distribution over known tokens, in answers, float32 [tokens, n]."""
    return F.linear(text.hidden[:, :-1][text.answers[:, 1:]], head).float().softmax(-1)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the draft of the real model.")
    parser.add_argument("--target", type=Path, help="another target than the real model")
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "models" / "smollm2-draft")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "smollm2-draft")
    parser.add_argument("--files", type=int, default=4, help="batches of conversations")
    parser.add_argument("--known", type=int, default=8191, help="tokens that the draft knows")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1], help="of the target")
    parser.add_argument("--steps", type=int, default=640)
    parser.add_argument("--batch", type=int, default=1280, help="tokens of a step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--places", type=int, default=192, help="of the texts to measure with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
