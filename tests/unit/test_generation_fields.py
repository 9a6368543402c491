"""The table of generation fields: each test holds for every field, also for those added later."""

from dataclasses import fields as attributes
from typing import Any

import pytest
import transformers
from generate_fields import config_text, docs_text, proto_text

from foredraft import GenerationConfig
from foredraft.v1 import generation_pb2
from foredraft.wire import GENERATION_FIELDS, Field, Kind, config_from, config_message
from foredraft.wire.field import Applier
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.sampling import Rule, Sampling
from foredraft_serving.messages import sampling_from
from foredraft_serving.ranges import check_ranges
from target_service.request.checks import check_config
from target_service.request.defaults import fill

VOCABULARY = 100
FIELDS = list(GENERATION_FIELDS.values())
# A value of each kind that asks for something.
EXAMPLES: dict[Kind, Any] = {
    Kind.BOOL: True,
    Kind.UINT: 3,
    Kind.FLOAT: 0.5,
    Kind.STRING: "constant",
    Kind.STRINGS: ("end",),
    Kind.TOKEN_ID: 7,
    Kind.TOKEN_IDS: (7, 8),
    Kind.SEQUENCES: ((7,), (8, 9)),
    Kind.BIASES: (((7, 8), 1.5),),
    Kind.TOKEN_BIASES: ((7, 1.5), (8, -2.5)),
    Kind.EARLY_STOPPING: "never",
    Kind.DECAY: (3, 1.5),
    Kind.WATERMARK: {"bias": 2.5},
    Kind.CACHE: {"backend": "quanto", "nbits": 4},
    Kind.RESPONSE_FORMAT: {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
}


def _names(field: Field) -> str:
    return field.name


@pytest.mark.parametrize("field", FIELDS, ids=_names)
def test_a_value_survives_the_wire(field: Field) -> None:
    config = config_from(config_message(None, {field.name: EXAMPLES[field.kind]}))
    assert getattr(config, field.name) == EXAMPLES[field.kind]
    others = [a.name for a in attributes(GenerationConfig) if a.name != field.name]
    assert all(getattr(config, name) is None for name in others)


@pytest.mark.parametrize("field", FIELDS, ids=_names)
def test_an_off_value_asks_for_nothing(field: Field) -> None:
    for value in field.off:
        asked = config_message(None, {field.name: value})
        check_config(asked, fill(asked, generation_pb2.GenerationConfig()), VOCABULARY, True)


def _config(field: Field, number: float) -> generation_pb2.GenerationConfig:
    """Returns a config whose field is, or has, a number."""
    message = generation_pb2.GenerationConfig()
    if field.kind is Kind.DECAY:
        message.exponential_decay_length_penalty.factor = number
    elif field.kind is Kind.BIASES:
        message.sequence_bias.values.add(ids=[1], bias=number)
    elif field.kind is Kind.TOKEN_BIASES:
        message.logit_bias.values[1] = number
    else:
        setattr(message, field.name, number)
    return message


@pytest.mark.parametrize("field", [f for f in FIELDS if f.range], ids=_names)
def test_a_number_out_of_range_is_refused_by_name(field: Field) -> None:
    limits = field.range
    assert limits
    # By as much as the limit itself: a number in float32 has no less than 7 digits.
    outside = [limits.least - max(1, abs(limits.least)), limits.most + max(1, limits.most)]
    outside += [limits.least] if limits.open_below else []
    outside += [limits.most] if limits.open_above else []
    whole = field.kind is Kind.UINT
    for number in outside:
        if number in limits or number in (float("inf"), float("-inf")) or (whole and number < 0):
            continue
        message = _config(field, int(number) if whole else number)
        with pytest.raises(InvalidFieldError) as raised:
            check_ranges(message, VOCABULARY)
        assert raised.value.field == field.name
        assert limits.rule in raised.value.reason


@pytest.mark.parametrize("field", [f for f in FIELDS if f.choices], ids=_names)
def test_another_word_is_refused_by_name(field: Field) -> None:
    with pytest.raises(InvalidFieldError) as raised:
        check_ranges(config_message(None, {field.name: "sometimes"}), VOCABULARY)
    assert raised.value.field == field.name


@pytest.mark.parametrize("field", [f for f in FIELDS if f.in_sampling], ids=_names)
def test_what_the_engine_applies_is_an_attribute_of_sampling(field: Field) -> None:
    declared = {a.name: a.default for a in attributes(Sampling)}
    if field.off:
        assert declared[field.name] == field.off[0]
    elif Applier.LENGTHS not in field.applied_by:
        assert not declared[field.name]
    config = config_message(None, {field.name: EXAMPLES[field.kind]})
    sampling = sampling_from(config, rule=Rule.GREEDY, seed=0, sequence_index=0, prompt_length=1)
    assert getattr(sampling, field.name) == EXAMPLES[field.kind]


@pytest.mark.parametrize("field", FIELDS, ids=_names)
def test_defaults_are_those_of_transformers(field: Field) -> None:
    theirs = transformers.GenerationConfig._get_default_generation_params()
    if field.default is not None and field.name in theirs:
        assert field.default == theirs[field.name]


@pytest.mark.parametrize("field", FIELDS, ids=_names)
def test_the_message_has_the_number_of_the_table(field: Field) -> None:
    declared = generation_pb2.GenerationConfig.DESCRIPTOR.fields_by_name[field.name]
    assert declared.number == field.number
    assert len(FIELDS) == len(generation_pb2.GenerationConfig.DESCRIPTOR.fields)


def test_generated_texts_hold_every_field() -> None:
    for text in (config_text(), proto_text(), docs_text()):
        assert all(field.name in text for field in FIELDS)
