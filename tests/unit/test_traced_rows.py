"""Traced layers give the logits of the layers' own forwards, in passes of any shape and size."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from draft_service.settings import DraftSettings
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.model import traced_rows
from foredraft_engine.model.packed_weights import pack_weights
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import PackedRows, Rows
from foredraft_engine.model.traced_rows import trace_rows
from foredraft_engine.scheduling.device_thread import Callbacks
from foredraft_engine.scheduling.start import start_engine
from tests.models import MODELS, PACKED, WINDOW, random_model, stock

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
    (3, [63]),  # the most tokens but one
    (3, [70]),  # too many for a graph
)


# Experts are multiplied by a kernel that tracing does not know, and Falcon calls torch's attention.
NOT_TRACED = ("gpt_oss", "falcon")
# Compiled in a minute.
LONG = ("qwen3", "stablelm")
KINDS = [
    *(pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in PACKED),
    "packed weights",
]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[PackedRows, PackedRows]:
    """The rows of one model, without graphs and with them."""
    if request.param == "packed weights":
        model = random_model("llama")
        assert pack_weights(model, 1)
    else:
        model = random_model(request.param)
    plain, traced = _rows(model), _rows(model)
    tracing = trace_rows(traced, "on")
    assert tracing.shapes == (0 if request.param in NOT_TRACED else 4), tracing.notes
    for rows in (plain, traced):
        with torch.inference_mode():
            for row, ids in enumerate(IDS):
                rows.forward([Feed(row, 0, ids[: 20 + row])], [1])
    return plain, traced


def _rows(model: nn.Module, count: int = COUNT, capacity: int = CAPACITY) -> PackedRows:
    stock(model)
    rows = prove_rows(model, model.config, capacity, SPARE).make(count, capacity)
    assert isinstance(rows, PackedRows)
    return rows


@torch.inference_mode()
def _logits(rows: Rows, feeds: Sequence[Feed]) -> Tensor:
    return rows.forward(feeds, [len(feed.ids) for feed in feeds])


def _assert_equal(pair: tuple[PackedRows, PackedRows], feeds: Sequence[Feed]) -> None:
    plain, traced = (_logits(rows, feeds) for rows in pair)
    torch.testing.assert_close(traced, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.parametrize(("first", "lengths"), PASSES, ids=str)
def test_passes_of_any_size(
    pair: tuple[PackedRows, PackedRows], first: int, lengths: Sequence[int]
) -> None:
    feeds = [
        Feed(first + i, 20 + i, IDS[first + i][20 + i : 20 + i + n])
        for i, n in enumerate(lengths)
        if n
    ]
    _assert_equal(pair, feeds)


def test_the_first_and_the_last_places(pair: tuple[PackedRows, PackedRows]) -> None:
    for start, n in ((0, 1), (0, 3), (WINDOW - 1, 4), (CAPACITY - 4, 4)):
        for rows in pair:
            if start:
                _logits(rows, [Feed(4, 0, IDS[4][:start])])
        _assert_equal(pair, [Feed(4, start, IDS[4][start : start + n])])


def test_trees(pair: tuple[PackedRows, PackedRows]) -> None:
    tree = Tree(20, [20, 20, 21, 21], [[], [], [20], [21]])
    feeds = [Feed(0, 20, [7, 8, 9, 10], tree), Feed(2, 22, [3])]
    _assert_equal(pair, feeds)
    _assert_equal(pair, feeds[:1])


def test_rows_of_one_model_do_not_share_a_pass(pair: tuple[PackedRows, PackedRows]) -> None:
    plain, traced = pair
    feeds = [Feed(1, 21, [5])]
    before = _logits(plain, feeds)
    _logits(traced, [Feed(0, 20, [9]), Feed(1, 21, [9])])
    assert torch.equal(_logits(plain, feeds), before)


def test_a_single_row_has_graphs_of_its_own() -> None:
    tracing = trace_rows(_rows(random_model("llama"), 1), "on")
    assert (tracing.shapes, tracing.notes) == (2, ())


class _Counting(nn.Module):
    """A layer that asks what its input is, which no trace can follow."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor, *args: object, **kwargs: object) -> Tensor:
        assert hidden.abs().max().item() >= 0
        made: Tensor = self.layer(hidden, *args, **kwargs)
        return made


def test_what_does_not_trace_runs_as_before() -> None:
    model = random_model("llama")
    plain = _logits(_rows(model), [Feed(0, 0, [1, 2, 3])])
    layers = model.get_submodule("model.layers")
    assert isinstance(layers, nn.ModuleList)
    for index, layer in enumerate(layers):
        layers[index] = _Counting(layer)
    rows = _rows(model)
    tracing = trace_rows(rows, "on")
    assert tracing.shapes == 0
    assert len(tracing.notes) == 4
    assert torch.equal(_logits(rows, [Feed(0, 0, [1, 2, 3])]), plain)


def test_a_layer_that_chooses_by_size_is_not_traced() -> None:
    model = random_model("llama")
    layer = model.get_submodule("model.layers.0")
    own = layer.forward

    def forward(hidden: Tensor, *args: object, **kwargs: object) -> Tensor:
        made: Tensor = own(hidden, *args, **kwargs)
        return made + 0 if hidden.shape[1] > 10 else made

    layer.forward = forward
    tracing = trace_rows(_rows(model), "on")
    assert tracing.shapes == 2  # one new token a row, of at most six rows
    assert all("other ways for other sizes" in note for note in tracing.notes)


def test_small_models_are_traced_if_asked_only() -> None:
    rows = _rows(random_model("llama"))
    assert "--compile on" in trace_rows(rows, "auto").notes[0]
    assert "off" in trace_rows(rows, "off").notes[0]
    assert rows.traced is None


def test_auto_compiles_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(traced_rows, "_LEAST_BYTES", 0)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    rows = _rows(random_model("llama"))
    (note,) = trace_rows(rows, "auto").notes
    assert "one start with --compile on compiles them" in note
    assert rows.traced is None
    assert not list(tmp_path.iterdir())


def _writable(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def _of_another(place: Path) -> None:
    place.mkdir()
    os.chown(place, 4242, 4242)


def _linked_by_another(place: Path) -> None:
    place.symlink_to(place.parent)
    os.chown(place, 4242, 4242, follow_symlinks=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN GIVE FILES AWAY: it did not run")
@pytest.mark.parametrize("take", [_writable, _of_another, _linked_by_another])
def test_what_others_may_have_compiled_is_not_run(
    take: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    take(place := tmp_path / "torchinductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place))
    rows = _rows(random_model("llama"))
    (note,) = trace_rows(rows, "on").notes
    assert note.startswith(f"others can write to {place}")
    assert rows.traced is None


@pytest.mark.long
def test_auto_takes_what_was_compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_rows, "_LEAST_BYTES", 0)
    assert trace_rows(_rows(random_model("llama")), "on").shapes == 4
    assert trace_rows(_rows(random_model("llama")), "auto").shapes == 4
    longer = _rows(random_model("llama"), capacity=CAPACITY + 1)
    assert trace_rows(longer, "auto").shapes == 0  # other rows are other graphs


@pytest.mark.parametrize("compile", ["on", "auto", "off"])
async def test_a_service_says_what_is_traced(
    compile: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "foredraft_engine")
    settings = DraftSettings(model=str(MODELS / "draft"), rows=3, max_length=64, compile=compile)
    loaded = await start_engine(str(settings.model), settings, Callbacks())
    try:
        text = caplog.text
        assert ("traced shapes of layers: 4" in text) == (compile == "on")
        assert ("smaller than 64 MiB" in text) == (compile == "auto")
        assert ("--compile is off" in text) == (compile == "off")
        async with loaded.engine.pool.lend([5, 6], "") as row:
            assert (await loaded.engine.score(row, [5, 6], 1)).shape[0] == 1
    finally:
        loaded.engine.close()
