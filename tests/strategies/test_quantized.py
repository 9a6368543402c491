"""Quantized rows: positions alone decide what a token attends to, whatever drafts and however it
was fed.

In double precision, where rounding moves no number over the edge between two levels, texts are
equal without excuse. In fp32 the rate of such differences is measured.
"""

import asyncio
import copy
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from foredraft_engine.cache.quantizers import BACKENDS, Hqq, Quanto, quantizer
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.feed import Feed
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.loading import load
from foredraft_engine.model.rows import PackedRows
from foredraft_engine.proposal import NOTHING, Proposal
from foredraft_engine.sampling import Rule
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.speculation.ngram import NgramDrafter
from tests.models import MODELS, random_model, rows_of, stock
from tests.plans import plan

NEW_TOKENS = 72
SPECS = {
    "quanto-4": CacheSpec("quanto", 4, 0, 0, 16, 1),
    "quanto-2": CacheSpec("quanto", 2, -1, 0, 8, 1),
    "hqq-4": CacheSpec("hqq", 4, 0, 1, 16, 1),
    "hqq-3": CacheSpec("hqq", 3, 1, 0, 8, 1),
    "hqq-1": CacheSpec("hqq", 1, 0, 0, 16, 1),
    "fp8": CacheSpec("fp8", 8, q_group_size=16, residual_length=1),
}


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> CacheSpec:
    return installed(SPECS[request.param])


def installed(spec: CacheSpec) -> CacheSpec:
    if not BACKENDS[spec.backend].is_installed:
        if os.environ.get("FOREDRAFT_REQUIRE_TOOLS"):
            pytest.fail(f"{spec.backend} is not installed")
        pytest.skip(f"{spec.backend} IS NOT INSTALLED: this test did not run")
    return spec


@cache
def _model(name: str = "llama") -> nn.Module:
    model: Any = random_model(name).double()
    model.set_experts_implementation("eager")  # the others have no float64
    return model  # type: ignore[no-any-return]


@cache
def _prompt(length: int, seed: int = 5) -> list[int]:
    return torch.randint(2, 4096, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def _rows(count: int = 4, spare: int = 0, name: str = "llama") -> PackedRows:
    return PackedRows(_model(name), count, 256, spare)


# What a row computes, compared with the rule written down once more, position by position.


def _by_the_rule(model: Any, ids: Sequence[int], spec: CacheSpec) -> Tensor:
    """Returns the logits of all positions by the rule, float64 [n, vocab]."""
    made, size = quantizer(spec.backend, spec.nbits), spec.q_group_size

    def read(states: Tensor, axis: int) -> Tensor:
        whole = len(states) // size * size
        groups = [states[at : at + size] for at in range(0, whole, size)]
        parts = [made.quantize(g, axis) for g in groups]
        return torch.cat(
            [made.dequantize([p], axis, g.shape) for p, g in zip(parts, groups, strict=True)]
        )

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any
    ) -> tuple[Tensor, None]:
        keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)  # [n, kv heads, size]
        quantized = read(keys, spec.axis_key), read(values, spec.axis_value)
        repeats, out = query.shape[1] // key.shape[1], []
        for i in range(query.shape[2]):
            seen = max(0, (i + 1 - spec.residual_length) // size) * size
            k = torch.cat([quantized[0][:seen], keys[seen : i + 1]]).repeat_interleave(repeats, 1)
            v = torch.cat([quantized[1][:seen], values[seen : i + 1]]).repeat_interleave(repeats, 1)
            window, sinks = options.get("sliding_window"), options.get("s_aux")
            first = max(0, i + 1 - window) if window else 0
            scores = torch.einsum("hd,nhd->hn", query[0, :, i], k[first:]) * options["scaling"]
            if sinks is not None:
                scores = torch.cat([scores, sinks[:, None]], 1)
            weights = scores.softmax(-1)[:, : i + 1 - first]
            out.append(torch.einsum("hn,nhd->hd", weights, v[first:]))
        return torch.stack(out)[None], None

    AttentionInterface.register("by_the_rule", attend)
    model.set_attn_implementation("by_the_rule")
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gpt_oss"])
def test_rows_follow_the_rule(name: str, spec: CacheSpec) -> None:
    """Pieces are ragged, with rejected tokens across the ends of groups, next to a dense row."""
    ids, generator = _prompt(90), torch.Generator().manual_seed(1)
    with torch.inference_mode():
        want = _by_the_rule(_model(name), ids, spec)
        dense = stock(_model(name))(torch.tensor([ids])).logits[0]
        rows, parts, beside, at = _rows(name=name), [], [], 0
        while at < len(ids):
            n, wrong = torch.randint(1, 20, (2,), generator=generator).tolist()
            new = ids[at : at + n]
            got = rows.forward(
                [Feed(1, at, new), Feed(2, at, [*new, *[7] * wrong], cache=spec)],
                [len(new), len(new) + wrong],
            )
            beside.append(got[: len(new)])
            parts.append(got[len(new) : 2 * len(new)])
            at += n
    got = torch.cat(parts).double()
    apart = (got - want).abs().amax(1) > 1e-4 + 1e-5 * want.abs().amax(1)
    # hqq searches its codes in float32. A value between two codes may fall to either side, by the
    # processor, and changes the few positions that read it much.
    assert apart.sum() <= (9 if spec.backend == "hqq" else 0)
    assert torch.allclose(got, want, atol=1e-2, rtol=1e-5)
    assert torch.allclose(torch.cat(beside).double(), dense, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(want, dense, atol=1e-2)


# Texts.


def _proposals(
    kind: str, right: Sequence[int], prompt: int
) -> Callable[[Sequence[int], int], Proposal]:
    index = NgramDrafter(max_ngram=2)

    def propose(tokens: Sequence[int], k: int) -> Proposal:
        at = len(tokens) - prompt
        good = tuple(right[at : at + k])
        if kind == "perfect":
            return Proposal(good)
        if kind == "model":
            return Proposal(
                tuple((t + 7) % 4096 if (at + i) % 3 == 2 else t for i, t in enumerate(good))
            )
        if kind == "adversarial":
            wrong = at % 2 and k - 1
            return Proposal(tuple((t + 1) % 4096 if i == wrong else t for i, t in enumerate(good)))
        if kind == "beside":  # its third token is wrong, and the right one an alternative
            bad = tuple((t + 1) % 4096 if i == 2 else t for i, t in enumerate(good))
            return (
                Proposal(bad, alternatives=((2, good[2]), (1, 5)))
                if len(good) > 2
                else Proposal(good)
            )
        if kind == "ngram":
            index.extend(tokens[len(index.tokens) :])
            return index.propose(k)
        return NOTHING

    return propose


async def _text(
    engine: Engine,
    prompt: Sequence[int],
    spec: CacheSpec | None,
    kind: str = "none",
    k: int = 0,
    right: Sequence[int] = (),
    rule: Rule = Rule.GREEDY,
) -> list[int]:
    processors = Processors(plan(prompt, NEW_TOKENS, rule=rule, seed=3).sampling, engine.device)
    tokens, propose = list(prompt), _proposals(kind, [*right, *[9] * 20], len(prompt))
    async with engine.pool.lend(tokens, "", spec) as row:
        async for _ in engine.prefill(row, tokens):
            pass
        while len(tokens) < len(prompt) + NEW_TOKENS:
            verdict = await engine.verify(row, tokens, propose(tokens, k), processors)
            tokens += verdict.ids
    return tokens[len(prompt) : len(prompt) + NEW_TOKENS]


@pytest.mark.parametrize("rule", [Rule.GREEDY, Rule.COUPLED])
async def test_text_does_not_depend_on_drafter_k_chunking_or_load(
    spec: CacheSpec, rule: Rule
) -> None:
    prompts = [_prompt(n) for n in (3, 40, 75)]
    engine = Engine(_rows(8), 4096)
    try:
        wants = [await _text(engine, p, spec, rule=rule) for p in prompts]
        dense = [await _text(engine, p, None, rule=rule) for p in prompts]
    finally:
        engine.close()
    assert wants != dense, "quantizing changed nothing: the test shows nothing"
    for chunk, k in ((7, 16), (64, 1), (256, 16), (256, 4)):
        engine = Engine(_rows(8, spare=4), 4096, chunk_tokens=chunk)
        try:
            for kind in ("ngram", "model", "adversarial", "beside"):
                got = await _text(engine, prompts[1], spec, kind, k, wants[1], rule)
                assert got == wants[1], (kind, k, chunk, "alone")
            quantized = [
                _text(engine, p, spec, kind, k, w, rule)
                for p, w in zip(prompts, wants, strict=True)
                for kind in ("perfect", "adversarial", "none")
            ]
            others = [
                _text(engine, p, None, "model", k, w, rule)
                for p, w in zip(prompts, dense, strict=True)
            ]
            together = await asyncio.gather(
                *[one for pair in zip(quantized[::3], others, strict=True) for one in pair]
            )
            assert together == [text for pair in zip(wants, dense, strict=True) for text in pair], (
                k,
                chunk,
                "mixed",
            )
            rest = await asyncio.gather(*quantized[1::3], *quantized[2::3])
            assert rest == [*wants, *wants], (k, chunk, "together")
        finally:
            engine.close()


async def test_single_precision_is_measured(measured: Callable[[str], None]) -> None:
    """Rounding can move a number over the edge between two levels: the rate of different texts is
    measured.
    """
    spec, equal, of = installed(SPECS["quanto-4"]), 0, 0
    engine = Engine(PackedRows(copy.deepcopy(_model()).float(), 4, 256), 4096)
    try:
        for seed in range(6):
            want = await _text(engine, _prompt(40, seed), spec)
            for kind, k in (("perfect", 16), ("adversarial", 16), ("model", 4)):
                equal, of = (
                    equal + (await _text(engine, _prompt(40, seed), spec, kind, k, want) == want),
                    of + 1,
                )
    finally:
        engine.close()
    measured(
        f"quantized fp32 llama, residual_length 1: {equal} of {of} assisted texts equal "
        "the plain one"
    )
    assert equal >= of - 3


# Groups.


@pytest.mark.parametrize(
    ("residual", "kind"), [(1, "perfect"), (20, "adversarial"), (20, "model"), (1, "none")]
)
async def test_a_group_is_quantized_once(
    residual: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = quantizer("fp8", 8)
    calls: list[int] = []
    quantize = made.quantize

    def counted(states: torch.Tensor, axis: int) -> Any:
        calls.append(1)
        return quantize(states, axis)

    monkeypatch.setattr(made, "quantize", counted, raising=False)
    spec, prompt = CacheSpec("fp8", 8, q_group_size=8, residual_length=residual), _prompt(40)
    rows = _rows()
    engine = Engine(rows, 4096, chunk_tokens=16)
    try:
        want = await _text(engine, prompt, spec)
        calls.clear()
        await _text(engine, prompt[:-1], spec)  # another prompt: nothing of the row is used again
        calls.clear()
        await _text(engine, prompt, spec, kind, 16, want)
    finally:
        engine.close()
    layers = next(row for row in rows.cache._quantized.values())._layers
    groups = max(
        len(layer.groups)
        for row in rows.cache._quantized.values()
        for layer in row._layers.values()
    )
    assert groups >= (len(prompt) + NEW_TOKENS - residual - 16) // 8
    assert len(calls) <= 2 * len(layers) * groups


def test_tokens_that_may_be_rejected_are_quantized_for_one_pass_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A short residual makes the queries of a proposal need the quantized form; rejected tokens are
    quantized anew.
    """
    spec = CacheSpec("fp8", 8, q_group_size=8, residual_length=1)
    with torch.inference_mode():
        rows = _rows()
        rows.forward([Feed(0, 0, _prompt(20), cache=spec)], [0])
        layer = rows.cache._quantized[0]._layers[0]
        assert len(layer.groups) == 2
        rows.forward([Feed(0, 20, [7] * 17, cache=spec)], [17])
        (proposed, _), length = layer.groups[2], len(layer.keys)
        assert (len(layer.groups), layer.first, length) == (4, 16, 21)  # both copies are there
        rows.forward([Feed(0, 22, [8] * 17, cache=spec)], [17])
        assert not torch.equal(layer.groups[2][0][0].float(), proposed[0].float())
        kept = layer.groups[2]
        rows.forward([Feed(0, 39, [8], cache=spec)], [1])
        assert layer.groups[2] is kept, "accepted: what was made for the proposal stays"


def test_forks_share_groups_and_go_on_apart() -> None:
    spec, ids = CacheSpec("fp8", 8, q_group_size=8, residual_length=4), _prompt(60)
    with torch.inference_mode():
        rows = _rows()
        rows.forward([Feed(0, 0, ids[:40], cache=spec)], [0])
        rows.forward([Feed(0, 40, [*ids[40:42], 3, 3], cache=spec)], [0])
        rows.copy_row(0, 2, 42)
        source, fork = (rows.cache._quantized[i]._layers[1] for i in (0, 2))
        assert all(a is b for a, b in zip(source.groups, fork.groups, strict=True))
        assert fork.keys.untyped_storage().data_ptr() == source.keys.untyped_storage().data_ptr()
        both = [Feed(0, 42, [9] * 18, cache=spec), Feed(2, 42, ids[42:], cache=spec)]
        apart = rows.forward(both, [18, 18])
        fresh = rows.forward(
            [Feed(0, 0, [*ids[:42], *[9] * 18], cache=spec), Feed(3, 0, ids, cache=spec)], [18, 18]
        )
    assert torch.allclose(apart, fresh, atol=1e-4)


async def test_a_row_serves_again_where_what_is_seen_is_still_there() -> None:
    spec = CacheSpec("fp8", 8, q_group_size=16, residual_length=8)
    engine = Engine(_rows(2), 4096)
    prompt = _prompt(40)
    try:
        want = await _text(engine, prompt, spec)
        so_far = [*prompt, *want]
        async with engine.pool.lend([*so_far, 5], "", spec) as row:
            assert len(row.cached) > len(prompt), "a conversation goes on"
        async with engine.pool.lend(so_far[:30], "", spec) as row:
            assert not row.cached, "what position 29 sees as it is was quantized since"
        assert await _text(engine, prompt, spec) == want
        for other in (None, CacheSpec("fp8", 8, q_group_size=16, residual_length=9)):
            async with engine.pool.lend([*so_far, 5], "", other) as row:
                assert not row.cached, "kept in another way"
    finally:
        engine.close()


def test_quantized_rows_take_no_room_for_others() -> None:
    spec = CacheSpec("fp8", 8)
    with torch.inference_mode():
        rows = _rows()
        rows.forward([Feed(0, 0, [1, 2, 3], cache=spec), Feed(1, 0, [1, 2, 3], cache=spec)], [1, 1])
        assert not rows.cache._stores
        rows.forward([Feed(0, 0, [1, 2, 3]), Feed(1, 3, [4], cache=spec)], [1, 1])
        assert rows.cache._stores
        assert list(rows.cache._quantized) == [1]


@pytest.mark.parametrize("name", ["quanto-4", "hqq-4"])
def test_four_bits_take_a_third_at_4k(name: str, measured: Callable[[str], None]) -> None:
    """Bytes are those of tensors' storages and of what passes allocate, in a bfloat16 model."""
    from benchmarks.quantized import CONTEXT, _feed, _scratch_bytes

    installed(SPECS[name])
    spec, model = CacheSpec(name.split("-")[0]), load(str(MODELS / "target"), dtype="bfloat16")
    ids = _prompt(CONTEXT + 8)
    with torch.inference_mode():
        rows = PackedRows(model.module, 1, CONTEXT + 64)
        _feed(rows, ids[:CONTEXT], spec)
        scratch = _scratch_bytes(rows, ids, CONTEXT, spec)
        resident = rows.cache._quantized[0].resident_bytes
        rows.forward([Feed(0, 0, [1])], [1])
    fp16 = sum(store.place_bytes for pair in rows.cache._stores.values() for store in pair)
    share = (resident + scratch) / CONTEXT / fp16
    measured(
        f"{name}: {(resident + scratch) / CONTEXT:.0f} bytes a token at 4k, {share:.3f} of fp16"
    )
    assert share <= 0.35


# The libraries.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["quanto-4", "quanto-2", "hqq-4", "hqq-3", "hqq-1"])
def test_many_groups_are_read_as_the_library_reads_one(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = installed(SPECS[name])
    made = quantizer(spec.backend, spec.nbits)
    states = torch.randn(
        5, spec.q_group_size, 2, 24, generator=torch.Generator().manual_seed(0)
    ).to(dtype)
    states[3, :, 1, 3] = 0.5  # a channel, and positions, of equal numbers
    states[4] = 0
    for axis in BACKENDS[spec.backend].axes:
        groups = [made.quantize(s, axis) for s in states]
        got = made.dequantize(groups, axis, states[0].shape).view_as(states)
        library = torch.stack([_library(made, s, axis) for s in states])
        assert torch.equal(got, library), axis
        assert torch.allclose(got[4], states[4], atol=1e-2)


def _library(made: Any, states: Tensor, axis: int) -> Tensor:
    """Returns what the library itself makes of a group, there and back."""
    matrix, size = states.flatten(1), len(states)
    if isinstance(made, Hqq):
        data, meta = made._library.quantize(
            matrix,
            axis=axis,
            nbits=made._nbits,
            group_size=size,
            device="cpu",
            compute_dtype=states.dtype,
        )
        meta["compute_dtype"] = states.dtype
        made._library.cuda(data, meta=meta, device="cpu")
        read: torch.Tensor = made._library.dequantize(data, meta).view_as(states)
        return read
    assert isinstance(made, Quanto)
    from optimum.quanto.tensor.grouped import ungroup
    from optimum.quanto.tensor.packed import PackedTensor

    scale, shift = made._optimize(matrix[None], made._type, axis, size)
    scale = scale.clamp(min=torch.finfo(states.dtype).tiny)
    levels = torch.ops.quanto.quantize_affine(matrix[None], made._nbits, axis, size, scale, shift)
    packed = PackedTensor.pack(levels, made._nbits)
    assert torch.equal(packed._data, made.quantize(states, axis)[0])
    back: torch.Tensor = ungroup(scale * levels - shift, axis, matrix[None].shape)
    return back.view_as(states)


def test_a_model_that_looks_into_its_cache_has_no_quantized_rows() -> None:
    from tests.unit.test_rows import _bloom

    assert not rows_of(_bloom(), 2, 64).quantizes
    assert rows_of(random_model("llama"), 2, 64).quantizes
