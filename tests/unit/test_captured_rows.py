"""Passes that are recorded once and replayed give the logits of passes that run."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from foredraft_engine.cache.bucket import Bucket
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.forward_pass import Unread
from foredraft_engine.model import captured_rows
from foredraft_engine.model.captured_rows import capture_rows
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import PackedRows
from foredraft_engine.model.separate_rows import SeparateRows
from foredraft_engine.transfer import to_device
from tests.models import PACKED, random_model, stock
from tests.pretended import NO_KERNELS
from tests.recorded import Operation, OperationRecorder

CAPACITY, SPARE, COUNT = 96, 16, 6
IDS = torch.randint(1, 4000, (COUNT, CAPACITY), generator=torch.Generator().manual_seed(1)).tolist()
# New tokens of neighbouring rows, by the first row. None is fed where a number is 0.
PASSES: Sequence[tuple[int, Sequence[int]]] = (
    (0, [1]),
    (5, [1]),
    (2, [6]),
    (0, [1, 1]),
    (1, [1, 0, 0, 1]),
    (0, [1] * COUNT),
    (0, [2, 1]),
    (1, [1, 8, 3, 0, 2]),
    (0, [8] * COUNT),
    (3, [31, 1]),
    (3, [33]),  # too many for a bucket
)
KINDS = [pytest.param(n, marks=[pytest.mark.long] * (n in ("qwen3", "stablelm"))) for n in PACKED]


def rows_of(model: nn.Module) -> PackedRows:
    stock(model)
    rows = prove_rows(model, model.config, CAPACITY, SPARE).make(COUNT, CAPACITY)
    assert isinstance(rows, PackedRows)
    return rows


def pair(name: str) -> tuple[PackedRows, PackedRows, OperationRecorder]:
    """Returns the rows of one model twice, without recordings and with them."""
    model, recorder = random_model(name), OperationRecorder()
    plain, captured = rows_of(model), rows_of(model)
    assert not capture_rows(captured, "auto", recorder)
    with torch.inference_mode():
        for rows in (plain, captured):
            for row, ids in enumerate(IDS):
                rows.lend(row)
                rows.forward([Feed(row, 0, ids[: 20 + row])], [1])
    return plain, captured, recorder


class Operations(TorchDispatchMode):
    """Counts the operations that take a kernel on a device, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := func._schema.name.split("::")[1]) not in NO_KERNELS:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


def feeds_of(first: int, lengths: Sequence[int], shift: int) -> list[Feed]:
    return [
        Feed(row, 20 + row - shift, IDS[row][40 + shift : 40 + shift + n])
        for row, n in enumerate(lengths, first)
        if n
    ]


def same(plain: PackedRows, captured: PackedRows, feeds: Sequence[Feed], scored: Any) -> None:
    want, got = plain.forward(feeds, scored), captured.forward(feeds, scored)
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(captured.hidden, plain.hidden, atol=2e-4, rtol=2e-4)


@torch.inference_mode()
@pytest.mark.parametrize("name", KINDS)
def test_logits_are_the_same(name: str) -> None:
    plain, captured, recorder = pair(name)
    for shift in range(3):  # the third comes to each bucket with other numbers
        for first, lengths in PASSES:
            feeds = feeds_of(first, lengths, shift)
            same(plain, captured, feeds, [len(f.ids) for f in feeds])
            same(plain, captured, feeds, [1] * len(feeds))
    assert recorder.replays > len(PASSES)
    assert captured.captured
    assert not captured.captured.reason


@torch.inference_mode()
def test_trees_are_the_same() -> None:
    plain, captured, recorder = pair("mistral")
    for start in (20, 19, 18, 17):
        tree = Tree.with_alternatives(start, 3, [0, 1, 1])
        feeds = [Feed(0, start, IDS[0][:6], tree), Feed(2, start, IDS[2][:2])]
        same(plain, captured, feeds, [6, 1])
    assert recorder.replays


@torch.inference_mode()
def test_ids_that_the_host_has_not_read() -> None:
    plain, captured, recorder = pair("llama")
    for shift in range(4):
        ids = torch.tensor([IDS[0][shift], IDS[3][shift], IDS[3][shift + 1]])
        read = [Feed(0, 20, ids[:1].tolist()), Feed(3, 20, ids[1:].tolist())]
        unread = [Feed(0, 20, Unread(1)), Feed(3, 20, Unread(2))]
        want = plain.forward(read, [1, 2])
        prepared = captured.prepare(unread, [1, 2])
        got = prepared.run(to_device(prepared.arrays, captured.device), ids)
        torch.testing.assert_close(got, want, atol=2e-4, rtol=2e-4)
    assert recorder.replays


@torch.inference_mode()
def test_texts_do_not_depend_on_what_was_recorded() -> None:
    _, captured, _ = pair("llama")
    feeds = feeds_of(0, [4, 2, 3], 0)
    made: list[Tensor] = [captured.forward(feeds, [4, 2, 3]) for _ in range(4)]
    for again in made[1:]:
        assert torch.equal(again, made[0])


@torch.inference_mode()
def test_a_replay_is_few_operations_and_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a bucket that is recorded, the host copies the numbers, and takes what was made."""
    _, captured, recorder = pair("llama")
    feeds = feeds_of(0, [4, 2, 3], 0)
    for _ in range(2):
        captured.forward(feeds, [4, 2, 3])
    called: list[Any] = []
    captured.model.register_forward_pre_hook(lambda *given: called.append(given))
    monkeypatch.setattr(Operation, "repeat", lambda one: None)  # the device's own work
    before = recorder.replays
    with Operations() as operations:
        captured.forward(feeds_of(0, [4, 2, 3], 1), [4, 2, 3])
    assert recorder.replays == before + 1
    assert not called
    assert sum(operations.kernels.values()) <= 8, operations.kernels


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("llama")
    rows = rows_of(model)

    def wait(module: nn.Module, given: Any, output: Any) -> None:
        output.logits.sum().item()

    model.register_forward_hook(wait)
    reason = capture_rows(rows, "auto", OperationRecorder())
    assert "not permitted" in reason
    assert rows.captured is None
    monkeypatch.setattr(captured_rows, "disagreement", lambda got, want: "logits differ")
    rows = rows_of(random_model("llama"))
    assert capture_rows(rows, "on", OperationRecorder()) == "logits differ"
    assert rows.captured is None


def test_numbers_of_the_host_are_noticed() -> None:
    """A model that keeps a number of its first call in Python gives other logits in a replay."""
    model = random_model("llama")

    def scale(module: nn.Module, given: Any, kwargs: Any) -> Any:
        rows: Any = kwargs["past_key_values"]
        start = rows.layout.spans[0].members[0].feed.start
        return given, {**kwargs, "position_ids": kwargs["position_ids"] * 0 + start}

    rows = rows_of(model)
    model.register_forward_pre_hook(scale, with_kwargs=True)
    assert "differ" in capture_rows(rows, "auto", OperationRecorder())


def test_who_records_nothing() -> None:
    rows = rows_of(random_model("llama"))
    assert capture_rows(rows, "off") == "--compile is off"
    assert "CUDA alone" in capture_rows(rows, "auto")
    assert "separate" in capture_rows(SeparateRows(random_model("llama"), 2, 32), "on")


def test_buckets() -> None:
    def bucket(*feeds: Feed) -> Bucket | None:
        return Bucket.of(feeds, 16, 1024)

    assert bucket(Feed(3, 500, range(5))) == Bucket(3, 1, 6, 6, 512, 0)
    assert bucket(Feed(3, 500, range(6))) == bucket(Feed(3, 400, range(5)))
    assert bucket(Feed(2, 9, range(1)), Feed(4, 700, range(3))) == Bucket(0, 8, 4, 4, 768, 0)
    assert bucket(Feed(0, 1020, range(4))) == Bucket(0, 1, 4, 4, 1024, 0)
    assert bucket(Feed(0, 9, range(33))) is None
    tree = Feed(0, 9, range(3), Tree.with_alternatives(9, 2, [0]))
    assert bucket(tree) == Bucket(0, 1, 4, 3, 128, 16)
