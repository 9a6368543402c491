"""A model's own generation_config.json is read as generously as transformers reads it.

Every field of the table joins by itself: whatever its value, the service starts, names the file and
the field, and serves plain calls.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire import GENERATION_FIELDS, Kind
from foredraft_engine.errors import ModelError
from foredraft_engine.model.loading import LoadedModel, load
from foredraft_engine.sampling import Rule
from target_service.request.defaults import Config
from target_service.request.model_config import model_config
from target_service.request.plan import Plan, ServiceLimits
from target_service.request.planner import Planner
from tests.models import MODELS
from tests.plans import planned

_PROMPT = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[5, 6, 7]))
_WRONG_TYPE: dict[Kind, Any] = {Kind.STRING: 3, Kind.STRINGS: 3}
_NUMBERS = (Kind.UINT, Kind.FLOAT, Kind.TOKEN_ID, Kind.TOKEN_IDS)
_BIASES = (Kind.BIASES, Kind.TOKEN_BIASES)
_FAR_IDS = {
    Kind.TOKEN_ID: 10**7,
    Kind.TOKEN_IDS: [2, 10**7],
    Kind.SEQUENCES: [[2, 10**7]],
    Kind.BIASES: [[[10**7], 1.0]],
    Kind.TOKEN_BIASES: [[10**7, 1.0]],
}


def _strange() -> Iterator[tuple[str, Any]]:
    for name, field in GENERATION_FIELDS.items():
        if not field.changes_text:
            continue
        yield name, _WRONG_TYPE.get(field.kind, "nonsense")
        if field.kind in _FAR_IDS:
            yield name, _FAR_IDS[field.kind]
        negative_is_fine = field.kind is Kind.FLOAT and field.range and -1 in field.range
        if field.kind in _NUMBERS and not negative_is_fine:
            yield name, -1
        if field.range and field.kind not in _BIASES and field.range.most < 1e30:
            yield name, field.range.most * 1000 + 1
        if field.range and 0 not in field.range and field.kind in (Kind.UINT, Kind.FLOAT):
            yield name, 0
        if field.choices:
            yield name, "nonsense"


_CONTRADICTIONS: list[tuple[str, dict[str, Any]]] = [
    ("num_return_sequences", {"num_return_sequences": 2}),
    ("num_return_sequences", {"num_beams": 2, "num_return_sequences": 3}),
    ("num_beam_groups", {"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 0.5}),
    ("num_beam_groups", {"num_beams": 4, "num_beam_groups": 2}),
    ("suppress_tokens", {"forced_eos_token_id": 2, "suppress_tokens": [2]}),
    ("exponential_decay_length_penalty", {"exponential_decay_length_penalty": [2, 1.5]}),
    ("guidance_scale", {"num_beams": 2, "guidance_scale": 2.0}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a model, whose generation config tests write."""
    folder = tmp_path_factory.mktemp("own") / "model"
    shutil.copytree(MODELS / "draft", folder)
    return folder


def _planner(folder: Path, values: Any) -> tuple[LoadedModel, Planner]:
    (folder / "generation_config.json").write_text(json.dumps(values))
    model = load(str(folder))
    config = model_config(model.name, model.generation_config.to_dict(), model.known_ids)
    return model, Planner(
        model, config, ServiceLimits(model.max_length, model_ids=model.scored_ids)
    )


def _plan(planner: Planner, **fields: Any) -> Plan:
    message = target_pb2.GenerateRequest(prompts=[_PROMPT], config=Config(**fields))
    return planned(planner, message).plans[0]


def _serves_plain_calls(planner: Planner) -> None:
    _plan(planner)
    if not planner._defaults.num_beam_groups and not planner._defaults.penalty_alpha:
        assert _plan(planner, do_sample=False, max_new_tokens=3).sampling.rule is Rule.GREEDY
        _plan(planner, do_sample=True, max_new_tokens=3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "value"), list(_strange()))
def test_a_strange_value_is_warned_about_and_left_out(
    name: str, value: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _, planner = _planner(folder, {name: value, "eos_token_id": 0} | {name: value})
    if (name, value) not in _HARMLESS:
        assert any(name in line and "generation_config.json" in line for line in caplog.messages), (
            caplog.messages
        )
    _serves_plain_calls(planner)


# These have an effect in transformers, and the same here.
_HARMLESS = [("top_p", 0), ("length_penalty", -1)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "values"), _CONTRADICTIONS)
def test_fields_that_contradict_one_another_leave_one_out(
    name: str, values: dict[str, Any], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _, planner = _planner(folder, values)
    assert any(name in line and "generation_config.json" in line for line in caplog.messages)
    _plan(planner)
    _plan(planner, do_sample=False, max_new_tokens=3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "values",
    [
        {"do_sample": False, "temperature": 0.0, "eos_token_id": 0},
        {"temperature": 0.6, "top_k": 5, "eos_token_id": [0, 10**6]},
        {"suppress_tokens": [17, 10**6], "eos_token_id": -1, "pad_token_id": -1},
        {"min_new_tokens": 50, "eos_token_id": 0, "max_new_tokens": 9},
        {"min_length": 100, "eos_token_id": 0, "use_mtp": True},
        {"repetition_penalty": 1.3, "forced_decoder_ids": [[1, 2]], "of_a_newer_version": 1},
    ],
)
def test_plain_calls_apply_what_transformers_applies_of_the_same_file(
    values: dict[str, Any], folder: Path
) -> None:
    model, planner = _planner(folder, values)
    plan = _plan(planner)
    ours, theirs = plan.sampling, model.generation_config
    assert ours.eos_token_id == tuple(
        i for i in _ids(theirs.eos_token_id) if 0 <= i < model.known_ids
    )
    assert ours.suppress_tokens == tuple(
        i for i in _ids(theirs.suppress_tokens) if i < model.known_ids
    )
    values.pop("use_mtp", None)
    theirs.use_mtp = None  # transformers would draft with layers that the model does not have
    generate: Any = model.module.generate
    text = generate(torch.tensor([[5, 6, 7]]), generation_config=theirs)
    assert plan.max_length >= text.shape[1]
    assert ours.repetition_penalty == values.get("repetition_penalty", 1.0)
    sampled = _plan(planner, do_sample=True).sampling
    assert (sampled.temperature, sampled.top_k) == (
        values.get("temperature") or 1.0,
        values.get("top_k", 50),
    )


def _ids(value: Any) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", ["{", "[1]", '"a"'])
def test_a_file_that_is_no_object_is_left_out(
    text: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "generation_config.json").write_text(text)
    load(str(folder))
    assert "generation_config.json is left out" in caplog.text


@pytest.mark.parametrize("name", ["dola_layers", "force_words_ids", "encoder_repetition_penalty"])
def test_what_would_change_the_text_ends_the_start_in_a_line(name: str) -> None:
    with pytest.raises(ModelError, match=f"generation_config.json sets {name}"):
        model_config("model", {name: 1.5})
