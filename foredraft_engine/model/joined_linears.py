"""Computes linear layers that read the same tensor at once, such as queries, keys and values.

On a CPU a call of a layer costs some ten microseconds beside its multiplication, and a weight of
half a mebibyte is read in as many.

This module knows nothing of architectures: it sees in a forward pass which layers read the same.
"""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from foredraft_engine.model.proof import disagreement
from foredraft_engine.model.quantization import is_plain


class JoinedLinear(nn.Module):
    """Several linear layers of one input. It stands in the place of the first."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self._sizes = [linear.out_features for linear in linears]
        first = linears[0]
        self.joined = nn.Linear(
            first.in_features, sum(self._sizes), first.bias is not None, device="meta"
        )
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.joined.weight = nn.Parameter(weight, requires_grad=False)
        if first.bias is not None:
            bias = torch.cat([linear.bias.detach() for linear in linears])
            self.joined.bias = nn.Parameter(bias, requires_grad=False)
        self._input: Tensor | None = None
        self._outputs: Sequence[Tensor] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in_features] to the output of the first layer."""
        return self.output(x, 0)

    def output(self, x: Tensor, at: int) -> Tensor:
        """Returns the output of one layer; all are kept until the last one is asked for."""
        if at == 0 or x is not self._input:
            self._input, self._outputs = x, self.joined(x).split(self._sizes, dim=-1)
        made = self._outputs[at]
        if at == len(self._sizes) - 1:
            self._input, self._outputs = None, ()
        return made


class JoinedPart(nn.Module):
    """One of the other layers of a `JoinedLinear`, in its own place."""

    def __init__(self, joined: JoinedLinear, at: int) -> None:
        super().__init__()
        self._output = partial(joined.output, at=at)  # no child, since its weights are another's

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        return self._output(x)


@torch.inference_mode()
def join_linears(model: nn.Module) -> int:
    """Joins the linear layers of a model that read the same tensor one after another.

    Args:
        model: a causal LM in evaluation mode, whose weights are not packed yet.

    Returns:
        The number of layers that became others' parts; 0 if the model gives other logits so, and
        on an accelerator.
    """
    if next(model.parameters()).device.type != "cpu":
        return 0
    ids = torch.arange(1, 9)[None]
    groups, before = _groups(model, ids)
    places = {child: (p, n) for p in model.modules() for n, child in p.named_children()}
    for linears in groups:
        joined = JoinedLinear(linears)
        for at, linear in enumerate(linears):
            parent, name = places[linear]
            setattr(parent, name, JoinedPart(joined, at) if at else joined)
    if not groups or not _difference(model, ids, before):
        return sum(len(linears) - 1 for linears in groups)
    for linears in groups:
        for linear in linears:
            parent, name = places[linear]
            setattr(parent, name, linear)
    return 0


def _groups(model: nn.Module, ids: Tensor) -> tuple[list[list[nn.Linear]], Tensor]:
    """Returns layers that are called once, one after another, with the same tensor; and logits."""
    calls: list[tuple[nn.Linear, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, nn.Linear)
        calls.append((module, inputs[0]))  # the tensor itself, so that no other gets its address

    # The class itself only: a derived class does something more.
    linears = [
        module
        for module in model.modules()
        if type(module) is nn.Linear and is_plain(getattr(module, "weight", None))
    ]
    hooks = [linear.register_forward_pre_hook(keep) for linear in linears]
    try:
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    runs = [[linear for linear, _ in run] for _, run in groupby(calls, lambda call: id(call[1]))]
    called = [linear for linear, _ in calls]
    return [run for run in runs if len(run) > 1 and _fit(run, called)], logits


def _fit(linears: Sequence[nn.Linear], called: Sequence[nn.Linear]) -> bool:
    """Returns whether layers can be joined."""
    kinds = {(one.in_features, one.weight.dtype, one.bias is None) for one in linears}
    return len(kinds) == 1 and all(called.count(one) == 1 for one in linears)


def _difference(model: nn.Module, ids: Tensor, before: Tensor) -> str:
    try:
        return disagreement(model(input_ids=ids, use_cache=False).logits, before)
    except (AttributeError, TypeError, RuntimeError) as error:
        return str(error)  # of a model that reads a layer's own weight
