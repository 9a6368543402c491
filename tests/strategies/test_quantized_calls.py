"""Quantized caches as calls ask for them: fields, defaults, refusals, and texts over the wire."""

import copy
from typing import Any

import pytest

from foredraft import AsyncClient, InvalidRequestError
from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire import write
from foredraft_engine.cache.quantizers import BACKENDS
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.model.rows import PackedRows
from foredraft_serving.settings import SettingsError
from target_service.request.cache_spec import check_default, of_service
from target_service.request.defaults import Config, fill_cache
from target_service.request.model_config import model_config
from target_service.request.plan import ServiceLimits
from target_service.request.planner import Planner
from tests.fakes import table_model
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of
from tests.plans import planned
from tests.strategies.test_quantized import SPECS, installed

PROMPT = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3]))


def _spec(
    defaults: Config | None = None, can_quantize: bool = True, **fields: Any
) -> CacheSpec | None:
    config = Config()
    for name, value in fields.items():
        write(config, name, value)
    planner = Planner(
        table_model(20), defaults or Config(), ServiceLimits(64, quantizes=can_quantize)
    )
    message = target_pb2.GenerateRequest(prompts=[PROMPT], config=config)
    return planned(planner, message).plans[0].cache


def _quantized(**config: Any) -> dict[str, Any]:
    return {"cache_implementation": "quantized", "cache_config": config}


def test_defaults_are_those_of_transformers() -> None:
    assert _spec() is None
    assert _spec(cache_implementation="dynamic", use_cache=True) is None
    assert _spec(**_quantized(backend="fp8")) == CacheSpec("fp8", 8, 0, 0, 64, 128)
    installed(SPECS["quanto-4"])
    assert _spec(cache_implementation="quantized") == CacheSpec("quanto", 4, 0, 0, 64, 128)
    asked = {"nbits": 2, "axis_key": -1, "axis_value": 0, "q_group_size": 32, "residual_length": 9}
    assert _spec(**_quantized(backend="quanto", **asked)) == CacheSpec("quanto", **asked)


def test_the_call_wins_over_the_model_over_the_service() -> None:
    service = of_service("quantized", '{"backend": "fp8", "residual_length": 5}')
    defaults = model_config("model", {})
    fill_cache(defaults, service)
    assert (
        _spec(defaults) == check_default(defaults, True) == CacheSpec("fp8", 8, residual_length=5)
    )
    assert _spec(defaults, cache_implementation="dynamic") is None
    assert _spec(defaults, cache_config={"backend": "fp8"}) == CacheSpec("fp8", 8)
    of_model = {
        "cache_implementation": "quantized",
        "cache_config": {"backend": "fp8", "residual_length": 7},
    }
    defaults = model_config("model", of_model)
    fill_cache(defaults, service)
    assert _spec(defaults) == CacheSpec("fp8", 8, residual_length=7)


def test_how_a_model_likes_to_be_run_is_no_matter_of_its_text() -> None:
    assert model_config("model", {"cache_implementation": "hybrid", "use_cache": False}) == Config()


REFUSED: dict[str, tuple[dict[str, Any], set[str], str]] = {
    "no cache": ({"use_cache": False}, {"use_cache"}, "leave it out"),
    "static": ({"cache_implementation": "static"}, {"cache_implementation"}, "operator"),
    "offloaded": ({"cache_implementation": "offloaded"}, {"cache_implementation"}, "operator"),
    "a config of nothing": (
        {"cache_config": {"backend": "fp8"}},
        {"cache_config", "cache_implementation"},
        "cache_implementation='quantized'",
    ),
    "no such backend": (_quantized(backend="HIGGS"), {"cache_config"}, "quanto, hqq or fp8"),
    "three bits of quanto": (
        _quantized(backend="quanto", nbits=3),
        {"cache_config"},
        "nbits of quanto is 2 or 4",
    ),
    "five bits of hqq": (_quantized(backend="hqq", nbits=5), {"cache_config"}, "1, 2, 3, 4 or 8"),
    "four bits of fp8": (_quantized(backend="fp8", nbits=4), {"cache_config"}, "nbits of fp8 is 8"),
    "groups of fp8": (
        _quantized(backend="fp8", q_group_size=64),
        {"cache_config"},
        "leave q_group_size out",
    ),
    "an axis of fp8": (
        _quantized(backend="fp8", axis_key=-1),
        {"cache_config"},
        "leave axis_key out",
    ),
    "axis 1 of quanto": (
        _quantized(backend="quanto", axis_key=1),
        {"cache_config"},
        "axis_key of quanto is 0 or -1",
    ),
    "axis -1 of hqq": (
        _quantized(backend="hqq", axis_value=-1),
        {"cache_config"},
        "axis_value of hqq is 0 or 1",
    ),
    "a group of 60": (
        _quantized(backend="hqq", q_group_size=60),
        {"cache_config"},
        "multiple of 8",
    ),
    "a group of 4096": (
        _quantized(backend="hqq", q_group_size=4096),
        {"cache_config"},
        "from 8 to 1024",
    ),
    "no residual": (_quantized(backend="fp8", residual_length=0), {"cache_config"}, "at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name_with_the_way_out(name: str) -> None:
    fields, named, way_out = REFUSED[name]
    with pytest.raises(InvalidFieldError, match=way_out) as caught:
        _spec(**fields)
    assert set(caught.value.fields) == named


@pytest.mark.parametrize("backend", ["quanto", "hqq"])
def test_a_missing_library_is_refused_with_the_line_that_installs_it(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "foredraft_engine.cache.quantizers.importlib.util.find_spec", lambda name: None
    )
    with pytest.raises(
        InvalidFieldError, match=rf"pip install -e '\.\[server,{backend}\]'"
    ) as caught:
        _spec(**_quantized(backend=backend))
    assert caught.value.field == "cache_config"
    assert not BACKENDS[backend].is_installed
    with pytest.raises(SettingsError, match="pip install"):
        of_service("quantized", f'{{"backend": "{backend}"}}')


def test_a_library_that_does_not_come_up_is_refused() -> None:
    import foredraft_engine.cache.quantizers as quantizers
    import target_service.request.cache_spec as caching

    def broken(backend: str, nbits: int) -> None:
        raise RuntimeError("no kernel for this torch")

    kept = quantizers.quantizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caching, "quantizer", broken)
        with pytest.raises(InvalidFieldError, match="no kernel for this torch"):
            _spec(**_quantized(backend="fp8"))
    assert quantizers.quantizer is kept


def test_models_whose_rows_cannot_be_quantized() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        _spec(can_quantize=False, **_quantized(backend="fp8"))
    assert caught.value.field == "cache_implementation"
    with pytest.raises(SettingsError):
        check_default(of_service("quantized", '{"backend": "fp8"}'), can_quantize=False)


@pytest.mark.parametrize(
    ("implementation", "config"),
    [
        ("dynamic", '{"backend": "fp8"}'),
        ("quantized", "{"),
        ("quantized", "[]"),
        ("quantized", '{"bits": 4}'),
    ],
)
def test_a_service_is_not_started_with_what_cannot_be(implementation: str, config: str) -> None:
    with pytest.raises(SettingsError, match="cache"):
        of_service(implementation, config)


@pytest.mark.parametrize("backend", ["quanto", "hqq", "fp8"])
async def test_over_the_wire_texts_are_the_same_with_any_assistance(
    backend: str, prompts: list[str]
) -> None:
    """Texts are the same with a draft service, n-grams, alternatives or nothing, next to calls that
    are not quantized.
    """
    for name in SPECS:
        if name.startswith(backend):
            installed(SPECS[name])
    model, draft = bundled("target"), bundled("draft")
    rows = PackedRows(copy.deepcopy(model.module).double(), 6, 512, spare=16)
    config: dict[str, Any] = {"backend": backend, "residual_length": 1}
    config |= {} if backend == "fp8" else {"q_group_size": 16}
    fields: dict[str, Any] = {
        "max_new_tokens": 48,
        "cache_implementation": "quantized",
        "cache_config": config,
    }
    ways: list[dict[str, Any]] = [{"num_assistant_tokens": 16}, {"prompt_lookup_num_tokens": 8}, {}]
    async with (
        draft_service(rows_of(draft.module, 8, 512, 64), draft) as service,
        target_service(rows, model, service.address) as target,
        AsyncClient(target.address) as client,
    ):
        plain = await client.generate(prompts[:2], num_assistant_tokens=0, **fields)
        for way in ways:
            got = await client.generate(prompts[:2], **fields, **way)
            assert [r.token_ids for r in got] == [r.token_ids for r in plain], way
        assert sum(r.stats.accepted for r in got) > 0
        whole = await client.generate(prompts[:2], max_new_tokens=48, num_assistant_tokens=4)
        again = await client.generate(prompts[:2], num_assistant_tokens=4, **fields)
        assert [r.token_ids for r in again] == [r.token_ids for r in plain]
        assert len(whole) == 2
        with pytest.raises(InvalidRequestError) as caught:
            await client.generate(prompts[0], cache_config={"backend": "fp8"})
        assert set(caught.value.fields) == {"cache_config", "cache_implementation"}
