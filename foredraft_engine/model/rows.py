"""A model's forward pass over rows: packed into one batch, or sequence by sequence.

Both kinds of rows keep each sequence in a row and have the same interface, so that no other module
depends on the kind. `foredraft_engine.model.proof` chooses it when a model is loaded.

This module knows nothing of sampling: it turns ids at positions into logits.
"""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from foredraft_engine.cache.attention import ATTENTION, AttendedKeys
from foredraft_engine.cache.layout import LayoutPlan
from foredraft_engine.cache.row_cache import RowCache
from foredraft_engine.capture.captured_passes import CapturedPasses, PassResult
from foredraft_engine.feed import Feed
from foredraft_engine.forward_pass import ForwardPass
from foredraft_engine.model.last_hidden import LastHidden
from foredraft_engine.tracing.traced_layers import TracedLayers

_LOOKS_FOR_PADDING = "warn_if_padding_and_no_attention_mask"


class Rows(Protocol):
    """A model with a cache of rows. Only one thread may call it, but for `lend`."""

    layout: str
    """The kind of rows: "packed" or "separate"."""
    count: int
    """The number of rows."""
    capacity: int
    """The number of positions in a row."""
    device: torch.device
    spare: int
    """The number of places in a row beyond its positions, for the branches of a full sequence."""
    branches: bool
    """Whether a feed can be a tree."""
    quantizes: bool
    """Whether a row can be quantized."""
    runs_ahead: bool
    """Whether tokens are drafted without the host in between, on a device that computes while the
    host does something else. A CPU gains nothing by it, and loses the passes after an early stop.
    """

    @property
    def hidden(self) -> Tensor:
        """The last hidden states of all tokens of the last forward pass, [sum(fed), size]."""

    def lend(self, row: int) -> None:
        """Notes that a row is lent for another text, before it is fed. Any thread may do so.

        What the row holds behind the beginning of that text has no effect any more, NaN included.
        """

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        """Writes the fed tokens into their rows and scores the last ones of each feed.

        Args:
            feeds: at most one feed for each row, in the order of rows. The contents of a row from
                `start` on are overwritten, which is how a row rolls back.
            scored: for each feed, the number of its last tokens that get logits.

        Returns:
            Logits, float32 [sum(scored), vocab].
        """

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        """Prepares what `forward` does. The ids of all feeds may be unread."""

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies positions `start` to `length` of row `source` to row `target`."""

    def row_bytes(self, row: int) -> int:
        """Returns the bytes that the keys and values of a row take."""


class PackedRows:
    """Rows that share one forward pass, see `foredraft_engine.cache.row_cache`."""

    layout = "packed"

    branches = True

    attention: ClassVar[str] = ATTENTION
    """The attention implementation of transformers that the model runs with."""
    keys: ClassVar[type[Tensor]] = Tensor
    """What the keys of the rows are for the model."""

    def __init__(self, model: nn.Module, count: int, capacity: int, spare: int = 0) -> None:
        model.set_attn_implementation(self.attention)  # type: ignore[operator]
        self.model = model
        _expect_no_padding(model)
        self.cache = RowCache(count, capacity + spare, self.keys)
        self._keeps = accepts(model, "logits_to_keep")
        self._hidden = LastHidden.of(model)
        self.count, self.capacity, self.spare = count, capacity, spare
        self.quantizes = True
        self.device = next(model.parameters()).device
        self.runs_ahead = self.device.type != "cpu"
        self.traced: TracedLayers | None = None
        """The layers of the model, if they are traced."""
        self.captured: CapturedPasses | None = None
        """The passes of the model, if they are recorded."""

    def lend(self, row: int) -> None:
        self.cache.lend(row)

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        return self.prepare(feeds, scored).alone(self.device)

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        bucket = self.captured.bucket(feeds) if self.captured else None
        plan = self.cache.plan(feeds, scored, bucket)
        return ForwardPass(plan.arrays, partial(self._run, plan))

    def _run(self, plan: LayoutPlan, tensors: Sequence[Tensor], ids: Tensor | None) -> Tensor:
        if plan.bucket is None:
            return self.run_pass(plan, tensors, ids).logits
        assert self.captured is not None
        result = self.captured.run(plan, tensors[0], ids)
        self._hidden.last = result.hidden[None]
        return result.logits

    def run_pass(
        self, plan: LayoutPlan, tensors: Sequence[Tensor], ids: Tensor | None = None
    ) -> PassResult:
        """Runs the model for a pass.

        Args:
            tensors: what a layout takes.
            ids: the packed ids if the host has not read them, int64 [n].
        """
        layout = self.cache.begin(plan, tensors, ids)
        graphs = self.traced.running(self.cache, layout) if self.traced else nullcontext()
        with layout.current(), graphs:
            output = self.model(
                input_ids=layout.ids[None],
                position_ids=layout.positions[None],
                past_key_values=self.cache,
                use_cache=True,
                **({"logits_to_keep": layout.scored} if self._keeps else {}),
            )
        logits: Tensor = output.logits[0]
        scored = (logits if self._keeps else logits[layout.scored]).float()
        return PassResult(scored, self._hidden.last[0])

    @property
    def hidden(self) -> Tensor:
        return self._hidden.last[0]

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        self.cache.copy_row(source, target, length, start)

    def row_bytes(self, row: int) -> int:
        return self.cache.row_bytes(row)


class InlineRows(PackedRows):
    """Packed rows of a model that calls torch's attention itself, such as Falcon."""

    attention = "sdpa"
    keys = AttendedKeys


def _expect_no_padding(model: nn.Module) -> None:
    """Stops a model from looking for padding in its ids, for which it waits for the device.

    Packed ids have none, and no mask that would tell.
    """
    for module in model.modules():
        if hasattr(module, _LOOKS_FOR_PADDING):
            setattr(module, _LOOKS_FOR_PADDING, lambda *given: None)


def accepts(model: nn.Module, argument: str) -> bool:
    """Returns whether a model's forward has an argument of that name."""
    return argument in inspect.signature(model.forward).parameters
