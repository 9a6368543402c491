"""Trains both models of the pair: random windows of the text, Muon, bfloat16 where it is safe."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENGTH = 256
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Course:
    """The training of one model."""

    steps: int
    batch: int  # windows per step
    rate: float  # the rate of AdamW; Muon's is five times that
    seed: int
    bf16: bool


def learn(
    net: nn.Module, ids: Tensor, loss_of: Loss, course: Course, keep: Callable[[], None]
) -> None:
    """Minimises `loss_of(window, logits)` over random windows of the text, and calls `keep` now and
    then.
    """
    optims = _optimizers(net, course.rate)
    rates = [optim.param_groups[0]["lr"] for optim in optims]
    windows = _windows(ids, course.batch, torch.Generator().manual_seed(course.seed))
    began, recent = time.monotonic(), 0.0
    net.train()
    for step in range(1, course.steps + 1):
        for optim, rate in zip(optims, rates, strict=True):
            optim.param_groups[0]["lr"] = rate * _warmth(step / course.steps)
        window = next(windows)
        with torch.autocast("cpu", torch.bfloat16, enabled=course.bf16):
            logits = net(window[:, :-1], use_cache=False).logits
            loss = loss_of(window, logits.float())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        recent = loss.item() if step == 1 else 0.95 * recent + 0.05 * loss.item()
        if step % 25 == 0 or step == course.steps:
            print(f"step {step}: loss {recent:.3f}, {time.monotonic() - began:.0f} s", flush=True)
        if step % 100 == 0 or step == course.steps:
            keep()
    net.eval()


@torch.inference_mode()
def cross_entropy(net: nn.Module, ids: Tensor, every: int = 1) -> float:
    """Returns the mean loss over the text's windows, or over one in `every`, in nats per token."""
    net.eval()
    whole = len(ids) // (LENGTH + 1)
    rows = ids[: whole * (LENGTH + 1)].view(whole, LENGTH + 1)[::every]
    losses = [F.cross_entropy(net(row[None, :-1]).logits[0], row[1:]) for row in rows]
    return float(torch.stack(losses).mean())


def _warmth(progress: float) -> float:
    """Returns the factor of the learning rate: a short rise, a plateau, a cosine's fall to nearly
    nothing.
    """
    falling = max(0.0, progress - 0.3) / 0.7
    return max(0.01, min(1.0, progress / 0.04) * (0.5 + 0.5 * math.cos(math.pi * falling)))


def _optimizers(net: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Returns Muon for the matrices inside, AdamW for embeddings and norms."""
    named = list(net.named_parameters())
    inner = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=rate * 5, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _windows(ids: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yields random windows, int64 [size, LENGTH + 1], for ever."""
    while True:
        starts = torch.randint(len(ids) - LENGTH, (size,), generator=generator)
        yield torch.stack([ids[start : start + LENGTH + 1] for start in starts])
