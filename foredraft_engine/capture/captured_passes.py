"""The forward passes of rows, recorded bucket by bucket and replayed.

A model's Python, and the launch of each of its kernels, take the host longer than the device
computes for the few tokens of a round. A replay is one call. All passes are padded to the sizes of
their buckets, recorded or not, so that a text does not depend on what was recorded before.

A bucket is recorded when it comes for the second time: the first run takes what memory the pass
needs. This module knows nothing of models.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft_engine.cache.bucket import Bucket
from foredraft_engine.cache.layout import LayoutPlan
from foredraft_engine.capture.recorder import Recorder
from foredraft_engine.feed import Feed

log = logging.getLogger(__name__)

# A recording takes a few megabytes on the device, for its kernels and their arguments.
_MOST_RECORDED = 128
_MOST_SEEN = 4096


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a forward pass makes."""

    logits: Tensor
    """float32 [scored, vocab]"""
    hidden: Tensor
    """The last hidden states, [fed, size]."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A pass whose numbers and results have fixed addresses."""

    numbers: Tensor
    """The numbers of its layout, int64 [n]."""
    result: PassResult
    replay: Callable[[], None]


class CapturedPasses:
    """Runs the passes of one model over its rows, on the device thread."""

    def __init__(
        self,
        run: Callable[[LayoutPlan, Sequence[Tensor]], PassResult],
        recorder: Recorder,
        rows: int,
        capacity: int,
    ) -> None:
        """
        Args:
            run: runs a pass; the second argument is what a layout takes.
            rows: the number of rows.
            capacity: the number of places in a row.
        """
        self._run, self._recorder = run, recorder
        self._rows, self._capacity = rows, capacity
        self._seen: set[Bucket] = set()
        self._recorded: dict[Bucket, _Recorded] = {}
        self.reason = ""
        """Why passes are not recorded any more; empty if they are."""

    @property
    def count(self) -> int:
        """The number of buckets that are recorded."""
        return len(self._recorded)

    def bucket(self, feeds: Sequence[Feed]) -> Bucket | None:
        """Returns the bucket of a pass; None if it runs unpadded."""
        return None if self.reason else Bucket.of(feeds, self._rows, self._capacity)

    def run(self, plan: LayoutPlan, numbers: Tensor, ids: Tensor | None) -> PassResult:
        """Runs a pass.

        Args:
            numbers: the one array of the plan on the device, int64 [n].
            ids: the ids of the tokens if the host has not read them, int64 [fed].
        """
        bucket = plan.bucket
        assert bucket is not None
        if ids is not None:
            short = bucket.packed - len(ids)
            numbers[: bucket.packed] = torch.cat([ids, ids[-1:].expand(short)])
        if recorded := self._recorded.pop(bucket, None):
            self._recorded[bucket] = recorded  # the last one that is to go
            recorded.numbers.copy_(numbers)
            recorded.replay()
            result = recorded.result
        else:
            result = self._run(plan, plan.split(numbers))
            if bucket in self._seen and not self.reason:
                self._record(plan, numbers)
            self._note_seen(bucket)
        # The next replay writes over what this one made.
        return PassResult(
            result.logits[: plan.scored].clone(), result.hidden[: plan.tokens].clone()
        )

    def _note_seen(self, bucket: Bucket) -> None:
        if len(self._seen) == _MOST_SEEN:
            self._seen.clear()
        self._seen.add(bucket)

    def _record(self, plan: LayoutPlan, numbers: Tensor) -> None:
        """Records a pass with these numbers; it writes the same keys and values once more."""
        assert plan.bucket is not None
        fixed = numbers.clone()
        split = plan.split(fixed)
        try:
            result, replay = self._recorder.record(lambda: self._run(plan, split))
        except Exception as error:  # a model's own code and torch's raise what they like
            said = str(error).strip().splitlines()[:1]
            self.leave(": ".join([type(error).__name__, *said]))
            return
        self._recorded[plan.bucket] = _Recorded(fixed, result, replay)
        if len(self._recorded) > _MOST_RECORDED:
            del self._recorded[next(iter(self._recorded))]

    def leave(self, reason: str) -> None:
        """Lets all passes run as they are from now on."""
        log.warning("passes are not recorded any more: %s", reason)
        self.reason = reason
        self._recorded.clear()
