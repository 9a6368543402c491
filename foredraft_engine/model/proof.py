"""Proof, when a model is loaded, that its rows give the same logits as the model itself.

A packed forward pass is right for most decoders and silently wrong for some, such as those whose
positions come from a mask that does not exist (ALiBi). So the engine tries it on the model that it
is given, first through transformers' attention interface, then through torch's own attention. A
short sequence and a long one, which exceeds every attention window, are fed in ragged pieces with a
rollback, and compared with forward passes of their own without a cache. A model that fails gets
separate rows; if those fail too, it is refused.

This module knows nothing of architectures: it compares numbers.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.model.rows import InlineRows, PackedRows, Rows
from foredraft_engine.model.separate_rows import SeparateRows

Kind = type[PackedRows] | type[InlineRows] | type[SeparateRows]

log = logging.getLogger(__name__)

# The largest difference that rounding explains, relative to the largest logit.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
_SHORT = 9
_LONG = 48
# Several groups even of the shortest long sequence; smaller ones would take most of a start.
_GROUP = 10
# A quantized row keeps its last tokens exactly, which many tokens make up for.
_MEASURED_TOKENS = 512


@dataclass(frozen=True, slots=True)
class ProvedRows:
    """The best kind of rows that is right for a model, and the abilities that are."""

    kind: Kind
    model: nn.Module
    spare: int = 0
    """The number of places in a row beyond its positions, for branches."""
    branches: bool = False
    quantizes: bool = False

    def make(self, count: int, capacity: int) -> Rows:
        """Returns rows.

        Args:
            count: the number of rows.
            capacity: the number of positions in a row.
        """
        rows = self.kind(self.model, count, capacity, self.spare)
        if isinstance(rows, PackedRows):
            rows.branches, rows.quantizes = self.branches, self.quantizes
        return rows

    def token_bytes(self, capacity: int, cache: CacheSpec | None = None) -> int:
        """Returns the bytes that a token of a row takes, by trying.

        Args:
            capacity: the number of positions in a row.
            cache: how the row is quantized.
        """
        cache = cache if self.quantizes else None
        tokens = min(capacity, _MEASURED_TOKENS if cache else _SHORT)
        rows = self.make(1, tokens)
        with torch.inference_mode():
            rows.forward([Feed(0, 0, [0] * tokens, cache=cache)], [1])
        return -(-rows.row_bytes(0) // tokens)


def prove_rows(model: nn.Module, config: Any, capacity: int, spare: int = 0) -> ProvedRows:
    """Returns the best kind of rows that is right for a model.

    Args:
        model: a decoder-only causal LM in evaluation mode.
        config: its text config.
        capacity: the largest number of positions in a row.
        spare: the number of places in a row beyond its positions, for branches. Rows have no spare
            places if branches are not right for the model.

    Raises:
        ModelError: no kind of rows gives the model's own logits.
    """
    short, long = _sequences(config, capacity)
    # One sequence after the other: a model whose frequencies follow the longest position must not
    # carry them from one to the next.
    with torch.inference_mode():
        try:
            expected = [_model_logits(model, ids) for ids in (long, short)]
        except Exception as error:  # a model's code raises what it likes
            raise ModelError(
                f"{type(model).__name__} cannot be served: its own forward pass fails: "
                f"{_first_line(error)}; use another model"
            ) from error
        kinds: list[Kind] = [PackedRows, InlineRows, SeparateRows]
        stock = config._attn_implementation
        failures: list[str] = []
        for kind in kinds:
            failure = _failure(partial(_ragged_logits, kind, model, short, long), expected)
            if not failure:
                if kind is SeparateRows:
                    log.warning("rows are kept %s, because %s", kind.layout, "; ".join(failures))
                return _rows_of_kind(kind, model, spare, long, expected[0])
            failures.append(f"{kind.__name__} fail: {failure}")
            model.set_attn_implementation(stock)  # type: ignore[operator]
    raise ModelError(
        f"{type(model).__name__} cannot be served: {'; '.join(failures)}; use another model"
    )


def _rows_of_kind(
    kind: Kind, model: nn.Module, spare: int, long: list[int], expected: Tensor
) -> ProvedRows:
    """Returns rows of a kind, with the abilities that are right for the model.

    Args:
        spare: the number of spare places in a row.
        long: the long sequence.
        expected: the logits of its last tokens, [8, vocab].
    """
    if not issubclass(kind, PackedRows):
        return ProvedRows(kind, model)
    if no_branches := _failure(lambda: [_branch_logits(kind, model, long)], [expected[-2:]]):
        log.warning("rows have no branches, because %s", no_branches)
    if no_groups := _failure(lambda: [_group_logits(kind, model, long)], [expected]):
        log.warning("rows cannot be quantized, because %s", no_groups)
    return ProvedRows(kind, model, 0 if no_branches else spare, not no_branches, not no_groups)


def _failure(compute: Callable[[], list[Tensor]], expected: list[Tensor]) -> str:
    """Computes logits; returns why they are not those expected, empty if they are."""
    try:
        computed = compute()
    except Exception as error:  # of a model whose code does not run over rows
        return _first_line(error)
    pairs = zip(computed, expected, strict=True)
    return next((failure for got, want in pairs if (failure := disagreement(got, want))), "")


def _first_line(error: Exception) -> str:
    """Returns the kind of an error and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _ragged_logits(kind: Kind, model: nn.Module, short: list[int], long: list[int]) -> list[Tensor]:
    """Feeds both sequences in uneven pieces, with a rejected proposal in between.

    Returns:
        The logits of the last tokens of the long and of the short sequence.
    """
    rows = kind(model, 3, len(long))
    cut, wrong = len(long) - 12, [(i + 1) % (max(long) + 1) for i in long[:3]]
    rows.forward([Feed(1, 0, long[:cut])], [0])
    rows.forward([Feed(0, 0, short[:3]), Feed(1, cut, long[cut : cut + 4] + wrong)], [1, 1])
    first = rows.forward(
        [Feed(0, 3, short[3:5]), Feed(1, cut + 4, long[cut + 4 : cut + 6])], [2, 2]
    )
    rest = rows.forward([Feed(0, 5, short[5:]), Feed(1, cut + 6, long[cut + 6 :])], [4, 6])
    return [torch.cat([first[2:], rest[4:]]), torch.cat([first[:2], rest[:4]])]


def _branch_logits(kind: type[PackedRows], model: nn.Module, long: list[int]) -> Tensor:
    """Feeds the last two tokens of the long sequence as a tree of two branches.

    Returns:
        Their logits, [2, vocab].
    """
    trunk, (last, end) = len(long) - 2, long[-2:]
    rows = kind(model, 1, len(long), 4)
    rows.forward([Feed(0, 0, long[:trunk])], [0])
    first = rows.forward([Feed(0, trunk, [end, last], Tree(trunk, [trunk] * 2, [[], []]))], [2])
    seen = [[trunk + 1], [trunk]]
    then = rows.forward([Feed(0, trunk + 2, [end, last], Tree(trunk, [trunk + 1] * 2, seen))], [2])
    return torch.stack([first[1], then[0]])


def _group_logits(kind: type[PackedRows], model: nn.Module, long: list[int]) -> Tensor:
    """Feeds the long sequence to a row that is kept in groups like a quantized one, but exactly.

    Returns:
        The logits of the last tokens, [8, vocab].
    """
    spec, cut = CacheSpec("exact", q_group_size=_GROUP, residual_length=1), len(long) - 12
    rows = kind(model, 2, len(long))
    rows.forward([Feed(0, 0, long[:3]), Feed(1, 0, long[:cut], cache=spec)], [0, 0])
    return rows.forward([Feed(0, 3, long[3:4]), Feed(1, cut, long[cut:], cache=spec)], [0, 8])


def disagreement(got: Tensor, want: Tensor) -> str:
    """Returns how far logits differ, if rounding does not explain it; empty if it does."""
    tolerance = _TOLERANCE[want.dtype] * max(want.abs().max().item(), 1e-6)
    difference = (got.float() - want.float()).abs().max().item()
    if difference <= tolerance:
        return ""
    return f"logits differ by {difference:.2g} (allowed {tolerance:.2g})"


def _model_logits(model: nn.Module, ids: list[int]) -> Tensor:
    """Returns the logits of the last tokens by the model itself, without a cache."""
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0]
    return logits[3:] if len(ids) == _SHORT else logits[len(ids) - 8 :]


def _sequences(config: Any, capacity: int) -> tuple[list[int], list[int]]:
    """Returns a short and a long sequence; the long one exceeds every attention window."""
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
