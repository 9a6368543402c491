"""Proof, at load, that a model's rows give what the model itself gives.

A packed forward is right for most decoders and silently wrong for some (attention that ignores the
attention interface, ALiBi rebuilt from a mask that is not there). So the engine tries it on the
model at hand: a short sequence beside a long one, past any attention window, in ragged pieces with
a rollback, against separate forwards without a cache. A model that fails is given separate rows; if
those fail too, it is refused.

Knows nothing of which architectures exist: it compares numbers.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.model.rows import PackedRows, Rows, SeparateRows

log = logging.getLogger(__name__)

# Allowed difference, as a share of the largest logit: rounding, not a wrong mask.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
_SHORT = 9
_LONG = 48


def prove_rows(model: nn.Module, config: Any, count: int, capacity: int, spare: int = 0) -> Rows:
    """Gives the model the best rows that are right for it.

    Args:
        model: a decoder-only causal LM in evaluation mode.
        config: its text config.
        count: rows wanted; capacity: positions of a row.
        spare: places of a row beyond these, for branches; the rows have none if branches are not
            right for it.

    Raises:
        ModelError: neither kind of rows gives what the model gives.
    """
    short, long = _sequences(config, capacity)
    # One sequence after the other: a model whose frequencies follow the longest position must not
    # carry them from one to the next.
    with torch.inference_mode():
        truth = [_plain(model, ids) for ids in (long, short)]
        kinds: list[tuple[type[PackedRows] | type[SeparateRows], str]]
        kinds = [(PackedRows, "packed"), (SeparateRows, "separate")]
        stock = config._attn_implementation
        failures = []
        for kind, name in kinds:
            if failure := _try(lambda kind=kind: kind(model, 3, len(long)), short, long, truth):  # type: ignore[misc]
                failures.append(f"{name}: {failure}")
                model.set_attn_implementation(stock)  # type: ignore[operator]
            else:
                if failures:
                    log.warning("rows are kept %s; %s", name, "; ".join(failures))
                failure = _try_branches(model, long, truth[0]) if kind is PackedRows else ""
                if failure:
                    log.warning("rows have no branches: %s", failure)
                rows: Rows = kind(model, count, capacity, 0 if failure else spare)
                rows.branches = rows.branches and not failure
                if kind is PackedRows and (failure := _try_groups(model, long, truth[0])):
                    log.warning("rows are not quantized: %s", failure)
                    rows.quantizes = False
                return rows
    raise ModelError(f"{type(model).__name__} cannot be served: {'; '.join(failures)}")


def _try(make: Callable[[], Rows], short: list[int], long: list[int], truth: list[Tensor]) -> str:
    """Why these rows are not right; empty if they are."""
    try:
        rows = make()
        got_long, got_short = _ragged(rows, short, long)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        AttributeError,
        IndexError,
    ) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    for name, got, want in (("long", got_long, truth[0]), ("short", got_short, truth[1])):
        if failure := disagreement(got, want):
            return f"the {name} sequence's {failure}"
    return ""


def _try_branches(model: nn.Module, long: list[int], truth: Tensor) -> str:
    """Why a tree of two branches does not give what the long sequence gives; empty if it does."""
    trunk, (last, end) = len(long) - 2, long[-2:]
    try:
        rows = PackedRows(model, 1, len(long), 4)
        rows.forward([Feed(0, 0, long[:trunk])], [0])
        first = rows.forward([Feed(0, trunk, [end, last], Tree(trunk, [trunk] * 2, [[], []]))], [2])
        seen = [[trunk + 1], [trunk]]
        then = rows.forward(
            [Feed(0, trunk + 2, [end, last], Tree(trunk, [trunk + 1] * 2, seen))], [2]
        )
    except (
        TypeError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        AttributeError,
        IndexError,
    ) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return disagreement(torch.stack([first[1], then[0]]), truth[-2:])


def _try_groups(model: nn.Module, long: list[int], truth: Tensor) -> str:
    """Why rows that are kept as quantized ones, though exactly, do not give what the long sequence
    gives.
    """
    spec, cut = CacheSpec("exact", q_group_size=4, residual_length=1), len(long) - 12
    try:
        rows = PackedRows(model, 2, len(long))
        rows.forward([Feed(0, 0, long[:3]), Feed(1, 0, long[:cut], cache=spec)], [0, 0])
        got = rows.forward([Feed(0, 3, long[3:4]), Feed(1, cut, long[cut:], cache=spec)], [0, 8])
    except (
        TypeError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        AttributeError,
        IndexError,
    ) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return disagreement(got, truth)


def disagreement(got: Tensor, want: Tensor) -> str:
    """How far logits are from what they should be, if rounding does not explain it;

    empty if it does.
    """
    tolerance = _TOLERANCE[want.dtype] * max(want.abs().max().item(), 1e-6)
    difference = (got.float() - want.float()).abs().max().item()
    return (
        ""
        if difference <= tolerance
        else f"logits differ by {difference:.2g} (allowed {tolerance:.2g})"
    )


def _ragged(rows: Rows, short: list[int], long: list[int]) -> tuple[Tensor, Tensor]:
    """Both sequences in uneven pieces, with a rejected proposal in between.

    Logits of the last tokens.
    """
    cut, wrong = len(long) - 12, [(i + 1) % (max(long) + 1) for i in long[:3]]
    rows.forward([Feed(1, 0, long[:cut])], [0])
    rows.forward([Feed(0, 0, short[:3]), Feed(1, cut, long[cut : cut + 4] + wrong)], [1, 1])
    first = rows.forward(
        [Feed(0, 3, short[3:5]), Feed(1, cut + 4, long[cut + 4 : cut + 6])], [2, 2]
    )
    rest = rows.forward([Feed(0, 5, short[5:]), Feed(1, cut + 6, long[cut + 6 :])], [4, 6])
    return torch.cat([first[2:], rest[4:]]), torch.cat([first[:2], rest[:4]])


def _plain(model: nn.Module, ids: list[int]) -> Tensor:
    """Logits of the last tokens by the model as it comes, without a cache."""
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0]
    return logits[3:] if len(ids) == _SHORT else logits[len(ids) - 8 :]


def _sequences(config: Any, capacity: int) -> tuple[list[int], list[int]]:
    """A short and a long sequence; the long one leaves every attention window well behind."""
    windows = [
        w
        for name in ("sliding_window", "attention_chunk_size")
        if (w := getattr(config, name, None))
    ]
    length = min(max([_LONG, *(w + w // 2 + 16 for w in windows)]), capacity)
    generator = torch.Generator().manual_seed(0)
    vocabulary = min(config.vocab_size, 1 << 15)
    draw = [
        torch.randint(vocabulary, (n,), generator=generator).tolist()
        for n in (_SHORT, max(length, 24))
    ]
    return draw[0], draw[1]
