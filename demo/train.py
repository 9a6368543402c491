"""Trains the bundled pair: tokenizer, target, then a draft distilled from the target.

    python demo/train.py --out demo/models

Everything follows from the seed, the interpreter's standard library and the number of steps.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import corpus

LENGTH = 256


def model(hidden: int, layers: int, heads: int, kv_heads: int, vocab: int) -> LlamaForCausalLM:
    """A small Llama with tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 16 * 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config)


def optimizers(net: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for embeddings and norms."""
    inner = [p for name, p in net.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in net.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=rate * 10, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(rest, lr=rate * 2, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def batches(ids: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Random windows, int64 [size, LENGTH + 1], for ever."""
    while True:
        starts = torch.randint(len(ids) - LENGTH - 1, (size,), generator=generator)
        yield torch.stack([ids[s : s + LENGTH + 1] for s in starts])


def held_out_loss(net: nn.Module, ids: Tensor) -> float:
    """Mean cross-entropy over held-out text, in nats per token."""
    net.eval()
    windows = ids[: len(ids) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    with torch.inference_mode():
        losses = [
            F.cross_entropy(net(w[:, :-1]).logits.flatten(0, 1), w[:, 1:].flatten()) for w in windows.split(16)
        ]
    net.train()
    return float(torch.stack(losses).mean())


def train(net: nn.Module, ids: Tensor, held_out: Tensor, args: argparse.Namespace, teacher: nn.Module | None) -> float:
    """Trains on the text, or towards the teacher's distribution over it; returns the held-out loss."""
    steps = args.draft_steps if teacher else args.target_steps
    optims = optimizers(net, args.draft_rate if teacher else args.rate)
    rates = [o.param_groups[0]["lr"] for o in optims]
    source = batches(ids, args.batch, torch.Generator().manual_seed(args.seed))
    began = time.time()
    for step in range(steps):
        scale = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * max(0, step / steps - 0.3) / 0.7))
        for optim, rate in zip(optims, rates, strict=True):
            optim.param_groups[0]["lr"] = rate * max(scale, 0.02)
        window = next(source)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits = net(window[:, :-1]).logits.flatten(0, 1)
            if teacher is None:
                loss = F.cross_entropy(logits.float(), window[:, 1:].flatten())
            else:
                with torch.no_grad():
                    wanted = teacher(window[:, :-1]).logits.flatten(0, 1).float().log_softmax(-1)
                loss = F.kl_div(logits.float().log_softmax(-1), wanted, reduction="batchmean", log_target=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.3f} {time.time() - began:.0f} s", flush=True)
        if (step + 1) % 500 == 0:
            save(net, args.out / ("draft" if teacher else "target"), args.tokenizer)
    return held_out_loss(net, held_out)


@torch.inference_mode()
def continuations(target: LlamaForCausalLM, ids: Tensor, args: argparse.Namespace) -> Tensor:
    """Text that the target goes on with, greedy and sampled: what the draft will have to foresee."""
    generator = torch.Generator().manual_seed(args.seed + 1)
    torch.manual_seed(args.seed + 1)
    target.eval()
    texts = []
    for i in range(args.continuations):
        starts = torch.randint(len(ids) - 64, (64,), generator=generator)
        prompts = torch.stack([ids[s : s + 64] for s in starts])
        sampled = {"do_sample": True, "temperature": (0.7, 1.0)[i // 2 % 2], "top_k": 0} if i % 2 else {"do_sample": False}
        out = target.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=192, eos_token_id=None, **sampled)
        texts.append(torch.cat([out, torch.zeros(64, 1, dtype=torch.long)], dim=1).flatten())
    return torch.cat(texts)


def save(net: nn.Module, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Half precision on disk; the file is complete before it takes its name."""
    fresh = folder.with_name(folder.name + ".new")
    state = {name: tensor.detach().to(torch.float16) for name, tensor in net.state_dict().items()}
    net.save_pretrained(fresh, state_dict=state)
    settings = json.loads((fresh / "config.json").read_text()) | {"dtype": "float16"}
    (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=1).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    folder.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.replace(folder / file.name)
    fresh.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("demo/models"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--draft-rate", type=float, default=2.5e-3)
    parser.add_argument("--target-steps", type=int, default=1600)
    parser.add_argument("--draft-steps", type=int, default=1200)
    parser.add_argument("--continuations", type=int, default=24, help="batches of 64 texts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    training, held_out = corpus.split()
    raw = corpus.train_tokenizer(list(training.values()), args.vocab)
    args.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=corpus.END, eos_token=corpus.END, pad_token=corpus.PAD, model_max_length=2048
    )
    ids, unseen = (corpus.encode(raw, list(texts.values())) for texts in (training, held_out))
    target = model(256, 6, 8, 4, args.vocab)
    draft = model(128, 2, 4, 2, args.vocab)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (target, draft)]
    print(f"{len(ids)} tokens, {len(unseen)} held out; parameters {sizes}, ratio {sizes[0] / sizes[1]:.2f}", flush=True)
    if args.target_steps:
        print(f"target: held-out loss {train(target, ids, unseen, args, None):.3f}", flush=True)
        save(target, args.out / "target", args.tokenizer)
    else:
        target = LlamaForCausalLM.from_pretrained(args.out / "target", dtype=torch.float32)
    target.eval()
    spoken = continuations(target, ids, args)
    mixed = torch.cat([ids, spoken.repeat(max(1, len(ids) // max(1, len(spoken))))])
    print(f"draft: held-out loss {train(draft, mixed, unseen, args, target):.3f}", flush=True)
    save(draft, args.out / "draft", args.tokenizer)


if __name__ == "__main__":
    main()
