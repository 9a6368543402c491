"""Trains the bundled pair: a tokenizer, a target, then a draft distilled from the target.

    python demo/train.py

Everything follows from the seed, the interpreter's standard library and the numbers of steps. It
prints the losses and the mean acceptance length that it reached.
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    logging,
)

from demo import corpus, distill, measure
from demo.learning import Course, cross_entropy, learn


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    logging.disable_progress_bar()
    began = time.monotonic()
    training, held_out = corpus.split()
    tokenizer = corpus.train_tokenizer(list(training.values()), args.vocab)
    ids, unseen = (corpus.encode(tokenizer, list(texts.values())) for texts in (training, held_out))
    print(f"{len(training)} modules, {len(ids)} tokens; held out {len(unseen)}", flush=True)
    if args.target_steps:
        target = model(256, 6, 4, 2, args.vocab)
        course = Course(
            args.target_steps, args.target_batch, args.target_rate, args.seed, args.bf16
        )
        keep = partial(save, target, args.out / "target", tokenizer)
        learn(target, ids, _next_token, course, keep)
        _report("target", target, ids, unseen, began)
    if args.draft_steps:
        # The target is read back as it was saved: its rounded weights are what the draft will have
        # to foresee.
        teacher = LlamaForCausalLM.from_pretrained(args.out / "target", dtype=torch.float32).eval()
        spoken = distill.continuations(teacher, ids, args.continuations, args.seed)
        print(
            f"{len(spoken)} tokens of the target's own, {time.monotonic() - began:.0f} s",
            flush=True,
        )
        # Half of each: the target's own text is repeated until it is as long as the library's.
        mixed = torch.cat([ids, spoken.repeat(len(ids) // len(spoken))])
        draft = model(128, 2, 2, 1, args.vocab)
        course = Course(
            args.draft_steps, args.draft_batch, args.draft_rate, args.seed + 1, args.bf16
        )
        keep = partial(save, draft, args.out / "draft", tokenizer)
        learn(draft, mixed, distill.divergence(teacher), course, keep)
        _report("draft", draft, ids, unseen, began)
    measure.report_acceptance(
        measure.load_pair(args.out), measure.prompts_of(tokenizer, held_out, args.places), args.seed
    )


def model(hidden: int, layers: int, heads: int, kv_heads: int, vocab: int) -> LlamaForCausalLM:
    """Makes a small Llama with tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 16 * 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=corpus.CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=corpus.END_ID,
        eos_token_id=corpus.END_ID,
        pad_token_id=corpus.PAD_ID,
    )
    return LlamaForCausalLM(config)


def save(net: LlamaForCausalLM, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Saves in half precision; a file is complete before it takes its name."""
    fresh = folder.with_name(folder.name + ".new")
    net.save_pretrained(
        fresh, state_dict={name: t.detach().half() for name, t in net.state_dict().items()}
    )
    settings = json.loads((fresh / "config.json").read_text()) | {"dtype": "float16"}
    (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    ends = {
        "bos_token_id": corpus.END_ID,
        "eos_token_id": corpus.END_ID,
        "pad_token_id": corpus.PAD_ID,
    }
    GenerationConfig(**ends).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    folder.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.replace(folder / file.name)
    fresh.rmdir()


def _next_token(window: Tensor, logits: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())


def _report(name: str, net: LlamaForCausalLM, ids: Tensor, unseen: Tensor, began: float) -> None:
    """Prints sizes and losses; the loss of the training text is over about as many windows as are
    held out.
    """
    size = sum(p.numel() for p in net.parameters())
    seen = cross_entropy(net, ids, every=40)
    print(f"{name}: {size} parameters, loss {seen:.3f} in training text, ", end="")
    print(
        f"{cross_entropy(net, unseen):.3f} held out, {time.monotonic() - began:.0f} s", flush=True
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the bundled pair.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument(
        "--target-steps", type=int, default=950, help="0 keeps the target that is there"
    )
    parser.add_argument("--target-batch", type=int, default=12)
    parser.add_argument("--target-rate", type=float, default=3e-3)
    parser.add_argument(
        "--draft-steps", type=int, default=1100, help="0 keeps the draft that is there"
    )
    parser.add_argument("--draft-batch", type=int, default=8)
    parser.add_argument("--draft-rate", type=float, default=5e-3)
    parser.add_argument(
        "--continuations", type=int, default=16, help="batches of 64 texts of the target's"
    )
    parser.add_argument(
        "--places", type=int, default=4, help="prompts from each held-out module, to measure with"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
