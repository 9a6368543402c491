"""Named configs: recognised, kept in a file, refused by name; the precedence of values."""

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import SynthIDTextWatermarkingConfig

from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire import config_message
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.settings import SettingsError
from target_service.request import config_files
from target_service.request import named_configs as configs
from target_service.request.config_files import ConfigPlaceFullError
from target_service.request.defaults import Config
from target_service.request.model_config import model_config
from target_service.request.named_configs import NamedConfigs, SavingNotAllowedError, places
from target_service.request.plan import ServiceLimits
from target_service.request.planner import Planner
from target_service.settings import TargetSettings
from tests.fakes import table_model
from tests.models import MODELS, random_model
from tests.plans import planned


def _any(_: Config) -> None:
    """Accepts every config."""


def _put(place: Path, name: str, values: Any) -> None:
    (place / f"{name}.json").write_text(values if isinstance(values, str) else json.dumps(values))


@pytest.fixture
def named(tmp_path: Path) -> NamedConfigs:
    return NamedConfigs([tmp_path], _any, saving=True)


# Each kind of field as it looks in a file, and whether transformers reads it back.
KINDS: list[dict[str, Any]] = [
    {},
    {"max_new_tokens": 8, "do_sample": True, "temperature": 0.7},
    {"eos_token_id": [2, 3], "bad_words_ids": [[1], [2, 3]], "stop_strings": ["\n\n", "é"]},
    {"sequence_bias": {(1, 2): 3.0, (4,): -0.5}},
    {"num_beams": 3, "early_stopping": "never"},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"exponential_decay_length_penalty": (5, 1.25)},
    {"watermarking_config": {"bias": 2.5, "context_width": 2}},
    {"watermarking_config": SynthIDTextWatermarkingConfig(5, [7, -8])},
    {"cache_implementation": "quantized", "cache_config": {"backend": "quanto", "nbits": 4}},
    {"num_assistant_tokens_schedule": "goodput", "num_assistant_tokens": 9},
    {"output_scores": True},
]


@pytest.mark.parametrize("fields", KINDS, ids=lambda fields: " ".join(fields) or "nothing")
def test_a_round_trip(named: NamedConfigs, tmp_path: Path, fields: dict[str, Any]) -> None:
    config = config_message(None, fields)
    named.save("mine", config)
    assert named.names() == ["mine"]
    assert named.get("mine") == config
    if isinstance(fields.get("watermarking_config"), SynthIDTextWatermarkingConfig):
        with pytest.raises(TypeError):  # transformers takes every mapping for a WatermarkingConfig
            transformers.GenerationConfig.from_pretrained(tmp_path, "mine.json")
        given = fields["watermarking_config"]
        upstream = transformers.GenerationConfig.from_pretrained(
            tmp_path, "mine.json", watermarking_config=given
        )
    else:
        upstream = transformers.GenerationConfig.from_pretrained(tmp_path, "mine.json")
    read = config_message(upstream, {})
    if "bias" in fields.get("watermarking_config", ()):
        assert read.watermarking_config.greenlist.bias == 2.5
    else:
        assert read == config


def test_what_transformers_saved_is_read(named: NamedConfigs, tmp_path: Path) -> None:
    upstream = transformers.GenerationConfig(
        do_sample=True,
        top_p=0.9,
        sequence_bias={(1, 2): 3.0},
        watermarking_config=SynthIDTextWatermarkingConfig(5, [7, 8]),
        output_scores=True,
        return_dict_in_generate=True,
    )
    upstream.save_pretrained(tmp_path, "theirs.json")
    config = named.get("theirs")
    assert config == config_message(upstream, {})
    assert list(config.watermarking_config.synth_id.keys) == [7, 8]


def test_what_is_a_named_config(named: NamedConfigs, tmp_path: Path) -> None:
    for file in (MODELS / "target").iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    _put(tmp_path, "merges", {"temperature": 7, "the": 1, "a": 2, "of": 3})  # a vocabulary
    _put(tmp_path, "added", {})
    _put(tmp_path, "list", [1])
    _put(tmp_path, "with.dot", {"top_k": 3})
    _put(tmp_path, "x" * 65, {"top_k": 3})
    _put(tmp_path, "huge", {"stop_strings": ["x" * config_files.MAX_BYTES]})
    (tmp_path / "folder.json").mkdir()
    assert named.names() == []
    _put(tmp_path, "precise", {"top_k": 3})
    _put(tmp_path, "misspelt", {"top_k": 3, "temprature": 0.5})
    _put(tmp_path, "broken", '{"top_k": ')
    _put(tmp_path, "wrong", {"top_k": "three"})
    _put(tmp_path, "elsewhere", {"dola_layers": "high", "top_k": 3})
    _put(tmp_path, "latin", "")
    (tmp_path / "latin.json").write_bytes('{"stop_strings": "é"}'.encode("latin-1"))
    assert named.names() == ["broken", "elsewhere", "latin", "misspelt", "precise", "wrong"]
    assert named.get("precise") == Config(top_k=3)
    for name, reason, field in [
        ("misspelt", "'temprature' is no generation parameter", "temprature"),
        ("broken", "cannot be used: Expecting value", None),
        ("latin", "can't decode", None),
        ("wrong", "top_k='three'", "top_k"),
        ("elsewhere", "dola_layers='high' is not supported", "dola_layers"),
    ]:
        with pytest.raises(InvalidFieldError, match=reason) as caught:
            named.get(name)
        assert caught.value.fields == (
            ("generation_config", field) if field else ("generation_config",)
        )


def test_a_name_that_is_none(named: NamedConfigs, tmp_path: Path) -> None:
    _put(tmp_path, "translation", {"top_k": 3})
    _put(tmp_path, "summary", {"top_k": 3})
    _put(tmp_path, "other", [1])
    with pytest.raises(
        InvalidFieldError, match=r"did you mean 'translation'\?; .* are summary, translation"
    ) as caught:
        named.get("translatoin")
    assert caught.value.field == "generation_config"
    with pytest.raises(InvalidFieldError, match="the model's own, which always holds"):
        named.get("generation_config")
    with pytest.raises(InvalidFieldError, match=r"other\.json holds no generation config"):
        named.get("other")
    for name in (
        "../secret",
        "/etc/passwd",
        "translation.json",
        "",
        ".",
        "a/b",
        "a\0b",
        "x" * 9999,
    ):
        with pytest.raises(InvalidFieldError, match="there is no config named"):
            named.get(name)


def test_the_operators_directory_goes_before_the_models(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place, k in ((first, 1), (second, 2)):
        place.mkdir()
        _put(place, "both", {"top_k": k})
        _put(place, f"only{k}", {"top_k": k})
    named = NamedConfigs([first, second], _any, saving=True)
    assert named.names() == ["both", "only1", "only2"]
    assert named.get("both").top_k == 1
    named.save("only2", Config(top_k=9))
    assert named.get("only2").top_k == 9
    assert json.loads((second / "only2.json").read_text())["top_k"] == 2, (
        "the model's own files stay"
    )


def test_saving_is_off_unless_it_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(SavingNotAllowedError, match="--save-generation-configs"):
        NamedConfigs([tmp_path], _any).save("a", Config())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "../up",
        "a/b",
        "a.b",
        "é",
        "x" * 65,
        "config",
        "generation_config",
        "Tokenizer",
        "a\n",
    ],
)
def test_names_that_are_not_saved(named: NamedConfigs, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        named.save(name, Config(top_k=1))
    assert caught.value.field == "name"
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_written_over(named: NamedConfigs, tmp_path: Path) -> None:
    _put(tmp_path, "index", {"metadata": {}, "weight_map": {}})
    with pytest.raises(InvalidFieldError, match="no generation config"):
        named.save("index", Config(top_k=1))
    assert json.loads((tmp_path / "index.json").read_text()) == {"metadata": {}, "weight_map": {}}


def test_limits(named: NamedConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Config()
    large.stop_strings.values.append("x" * config_files.MAX_BYTES)
    with pytest.raises(InvalidFieldError, match="the limit is"):
        named.save("large", large)
    monkeypatch.setattr(configs, "MAX_CONFIGS", 2)
    named.save("a", Config())
    named.save("b", Config())
    named.save("b", Config(top_k=3))
    with pytest.raises(InvalidFieldError, match="there are 2 configs"):
        named.save("c", Config())
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]


def test_a_write_that_fails_leaves_the_old_file(
    named: NamedConfigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named.save("a", Config(top_k=1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigPlaceFullError, match="no space"):
        named.save("a", Config(top_k=2))
    assert os.listdir(tmp_path) == ["a.json"]
    assert named.get("a").top_k == 1


def test_a_link_is_replaced_not_followed(named: NamedConfigs, tmp_path: Path) -> None:
    """A hub's snapshot is made of links to files that other revisions share."""
    (tmp_path / "blob").write_text('{"top_k": 1}')
    (tmp_path / "a.json").symlink_to("blob")
    assert named.get("a").top_k == 1
    named.save("a", Config(top_k=2))
    assert named.get("a").top_k == 2
    assert (tmp_path / "blob").read_text() == '{"top_k": 1}'


def test_readers_beside_writers_see_whole_files(named: NamedConfigs, tmp_path: Path) -> None:
    named.save("a", Config(top_k=0))
    failures: list[BaseException] = []

    def write(top_k: int) -> None:
        try:
            for _ in range(25):
                named.save(
                    "a",
                    Config(
                        top_k=top_k, stop_strings=generation_pb2.Strings(values=["x" * 900 * top_k])
                    ),
                )
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(k,)) for k in (1, 2, 3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        config = named.get("a")
        assert len("".join(config.stop_strings.values)) == 900 * config.top_k
        assert named.names() == ["a"]
    for writer in writers:
        writer.join()
    assert not failures
    assert os.listdir(tmp_path) == ["a.json"]


def test_places(tmp_path: Path) -> None:
    model, other = str(MODELS / "target"), str(tmp_path)
    assert places(TargetSettings(model=model)) == (Path(model),)
    assert places(TargetSettings(model=model, generation_configs=other)) == (tmp_path, Path(model))
    assert places(TargetSettings(model="nobody/nothing")) == ()
    assert places(TargetSettings(model="not a hub id/at all/")) == ()
    with pytest.raises(SettingsError, match="there is no directory"):
        places(TargetSettings(model=model, generation_configs=str(tmp_path / "none")))
    with pytest.raises(SettingsError, match="give --generation-configs DIR"):
        places(TargetSettings(model="nobody/nothing", save_generation_configs=True))
    assert places(
        TargetSettings(
            model="nobody/nothing", generation_configs=other, save_generation_configs=True
        )
    ) == (tmp_path,)


def test_a_snapshot_of_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        configs, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json")
    )
    assert places(TargetSettings(model="somebody/something")) == (tmp_path,)


def _planner(**defaults: Any) -> Planner:
    return Planner(table_model(20), model_config("model", defaults), ServiceLimits(64))


@pytest.mark.parametrize(
    ("fields", "named_fields"),
    [
        ({"top_p": 2.0, "do_sample": True}, ("top_p",)),
        ({"temperature": 0.5}, ("temperature", "do_sample")),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, ("min_new_tokens", "max_new_tokens")),
        ({"max_length": 65}, ("max_length", "prompts")),
        ({"num_return_sequences": 2}, ("num_return_sequences", "do_sample")),
        ({"eos_token_id": [20]}, ("eos_token_id",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_call_could_not_ask_for_is_not_saved(
    tmp_path: Path, fields: dict[str, Any], named_fields: tuple[str, ...]
) -> None:
    named = NamedConfigs([tmp_path], _planner().check_config, saving=True)
    with pytest.raises(InvalidFieldError) as caught:
        named.save("a", config_message(None, fields))
    assert caught.value.fields == named_fields
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "named_fields"),
    [
        ({"bad_words_ids": [[1], [2]], "eos_token_id": 2}, ("bad_words_ids", "eos_token_id")),
        (
            {"suppress_tokens": list(range(10)), "bad_words_ids": [[i] for i in range(10, 20)]},
            ("suppress_tokens", "bad_words_ids"),
        ),
        ({"begin_suppress_tokens": list(range(20))}, ("begin_suppress_tokens",)),
        ({"forced_bos_token_id": 3}, ("forced_bos_token_id", "prompts")),
        (
            {"prompt_lookup_num_tokens": 3, "assistant_confidence_threshold": 0.7},
            ("prompt_lookup_num_tokens", "assistant_confidence_threshold"),
        ),
        (
            {"prompt_lookup_num_tokens": 3, "num_assistant_tokens_schedule": "heuristic_transient"},
            ("prompt_lookup_num_tokens", "num_assistant_tokens_schedule"),
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_contradictions_that_transformers_ignores(
    fields: dict[str, Any], named_fields: tuple[str, ...]
) -> None:
    prompt = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3]))
    with pytest.raises(InvalidFieldError) as caught:
        planned(
            _planner(),
            target_pb2.GenerateRequest(prompts=[prompt], config=config_message(None, fields)),
        )
    assert caught.value.fields == named_fields


# The call's own fields, those of a named config, those of the model's own.
PRECEDENCE: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    ({}, {}, {"max_length": 30}),
    ({}, {"max_length": 25}, {"max_length": 30}),
    ({"max_length": 20}, {"max_length": 25}, {"max_length": 30}),
    ({"max_length": 20}, {"max_new_tokens": 5}, {}),
    ({"max_new_tokens": 4}, {"max_new_tokens": 5}, {"max_length": 9}),
    ({"max_length": 40}, {}, {"max_new_tokens": 6}),
    ({}, {"max_length": 40}, {"max_new_tokens": 6}),
    ({"max_new_tokens": 7, "max_length": 50}, {}, {"max_new_tokens": 6}),
    ({"min_length": 6}, {"min_new_tokens": 2}, {}),
    ({"min_new_tokens": 3}, {"min_length": 12}, {"min_length": 14}),
    ({"min_new_tokens": 0}, {"min_length": 12}, {}),
    ({}, {"min_length": 12}, {"min_new_tokens": 1}),
    ({}, {}, {"min_new_tokens": 4, "min_length": 9}),
    (
        {"do_sample": True, "temperature": 0.5},
        {"temperature": 0.6, "top_p": 0.9},
        {"top_p": 0.8, "top_k": 7},
    ),
    ({"do_sample": True}, {"top_k": 3, "eos_token_id": [3, 4]}, {"eos_token_id": [5]}),
    (
        {"do_sample": True, "eos_token_id": [6]},
        {"suppress_tokens": [1, 2]},
        {"suppress_tokens": [9], "min_p": 0.1},
    ),
    (
        {"repetition_penalty": 1.25},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"do_sample": True},
    ),
    ({"do_sample": False}, {}, {"do_sample": True, "temperature": 0.6}),
]
_COMPARED = (
    "do_sample",
    "top_k",
    "top_p",
    "temperature",
    "repetition_penalty",
    "no_repeat_ngram_size",
)
_IDS = ("eos_token_id", "suppress_tokens")


@pytest.mark.parametrize(("call", "passed", "own"), PRECEDENCE)
@pytest.mark.filterwarnings("ignore")
def test_precedence_is_that_of_transformers(
    tmp_path: Path, call: dict[str, Any], passed: dict[str, Any], own: dict[str, Any]
) -> None:
    prompt = [1, 2, 3]
    model: Any = random_model("llama")
    model.generation_config = transformers.GenerationConfig(**own)
    given = transformers.GenerationConfig(**passed)
    unset = {
        field: all(values.get(field) is None for values in (call, passed, own))
        for field in ("max_length", "min_length")
    }
    want, _ = model._prepare_generation_config(given, **call)
    want = model._prepare_generated_length(
        want, unset["max_length"], unset["min_length"], "input_ids", len(prompt), None
    )
    NamedConfigs([tmp_path], _any, saving=True).save("passed", config_message(None, passed))
    message = target_pb2.GenerateRequest(
        prompts=[generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=prompt))],
        config=config_message(None, call),
        config_name="passed",
    )
    planner = Planner(
        table_model(20), model_config("model", own), ServiceLimits(64), config_places=[tmp_path]
    )
    plan = planned(planner, message).plans[0]
    assert plan.max_length == want.max_length
    least = max(plan.sampling.min_length, len(prompt) + plan.sampling.min_new_tokens)
    assert least == max(want.min_length, len(prompt))
    for name in _COMPARED:
        assert getattr(plan.config, name) == getattr(want, name), name
    for name in _IDS:
        assert list(getattr(plan.config, name).ids) == (getattr(want, name) or []), name
    assert (plan.config.min_p or None) == want.min_p
