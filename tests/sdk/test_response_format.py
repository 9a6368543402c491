"""Response formats as the SDK takes them."""

import json
from typing import Any

import pytest

from foredraft import GenerationConfig, InvalidRequestError
from foredraft.wire import config_from, config_message

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
TAG = {"structures": [{"begin": "<f>", "schema": SCHEMA, "end": "</f>"}], "triggers": ["<f"]}
FORMATS: list[dict[str, Any]] = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    {"type": "regex", "regex": "a+"},
    {"type": "grammar", "grammar": 'start: "a"'},
    {"type": "choice", "choice": ["a", ""]},
    {"type": "structural_tag", "structural_tag": TAG},
    {"type": "structural_tag", "format": {"type": "any_text"}},
]


def _sent(value: Any) -> Any:
    return config_message(None, {"response_format": value}).response_format


@pytest.mark.parametrize("value", FORMATS, ids=lambda v: v["type"])
def test_a_format_survives_the_wire(value: Any) -> None:
    config = config_message(None, {"response_format": value})
    assert config_from(config).response_format == value


def test_what_openai_has_beside_a_schema_is_taken() -> None:
    beside = {"name": "person", "description": "A person.", "strict": True}
    sent = _sent({"type": "json_schema", "json_schema": {"schema": SCHEMA, **beside}})
    assert json.loads(sent.json_schema) == SCHEMA
    assert sent.json_schema.index('"b"') < sent.json_schema.index('"a"'), (
        "the order is the caller's"
    )


def test_a_class_stands_for_its_schema() -> None:
    class Person:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return SCHEMA

    assert json.loads(_sent(Person).json_schema) == SCHEMA
    assert GenerationConfig(response_format=Person).response_format is Person


DEEP: dict[str, Any] = {}
for _ in range(20_000):
    DEEP = {"items": DEEP}
REFUSED: dict[str, tuple[Any, str]] = {
    "a deep schema": ({"type": "json_schema", "json_schema": {"schema": DEEP}}, "too deep"),
    "a name alone": ("json_object", "mapping"),
    "no type": ({}, "type is None"),
    "another type": ({"type": "xml"}, "'xml'; it is one of text, json_object"),
    "no schema": ({"type": "json_schema"}, "json_schema has no 'json_schema'"),
    "a bare schema": ({"type": "json_schema", "json_schema": SCHEMA}, "has no 'schema'"),
    "a schema as text": ({"type": "json_schema", "json_schema": {"schema": "{}"}}, "mapping"),
    "no string": ({"type": "regex", "regex": 3}, "string"),
    "one choice": ({"type": "choice", "choice": "a"}, "list"),
    "more than it has": ({"type": "json_object", "schema": SCHEMA}, "'schema', which is no part"),
    "half a structure": (
        {"type": "structural_tag", "structural_tag": {"structures": [{}], "triggers": []}},
        "a structure has no 'begin'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_format_is_refused(name: str) -> None:
    value, reason = REFUSED[name]
    with pytest.raises(InvalidRequestError, match="response_format") as raised:
        _sent(value)
    assert reason in str(raised.value)
    assert raised.value.field == "response_format"


@pytest.mark.parametrize("name", ["guided_json", "guided_regex", "guided_choice", "guided_grammar"])
def test_other_names_lead_here(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="response_format"):
        config_message(None, {name: "x"})


def test_transformers_has_none() -> None:
    config = GenerationConfig(response_format={"type": "json_object"})
    with pytest.raises(InvalidRequestError, match="response_format"):
        config.to_transformers()
