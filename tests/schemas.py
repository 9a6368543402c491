"""A hundred JSON schemas of the kinds that JSONSchemaBench has (arXiv 2501.10868): every leaf in
every shape. Their texts have a bounded length, so that each of them comes to its end.
"""

from collections.abc import Callable, Mapping
from typing import Any

Schema = dict[str, Any]

LEAVES: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "const": {"const": "v1.0"},
    "const object": {"const": {"kind": "List", "items": []}},
    "enum": {"enum": ["always", "if not present", "never"]},
    "mixed enum": {"enum": [1, "one", None, True]},
    "short string": {"type": "string", "maxLength": 5},
    "string of a length": {"type": "string", "minLength": 2, "maxLength": 4},
    "pattern": {"type": "string", "pattern": "^[a-z]{1,4}(-[0-9]{2})?$"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "address": {"type": "string", "format": "ipv4"},
    "integer": {"type": "integer", "minimum": 0, "maximum": 65535},
    "negative": {"type": "integer", "exclusiveMinimum": -100, "maximum": -1},
    "several": {"type": "integer", "minimum": 0, "maximum": 90, "multipleOf": 15},
    "nullable": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
    "either": {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 3}]},
    "one of": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "size": {"enum": [1, 2]}},
                "required": ["kind"],
                "additionalProperties": False,
            }
            for kind in ("disk", "link")
        ]
    },
    "pair": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"enum": ["m", "kg"]}],
        "items": False,
        "minItems": 2,
    },
    "all of": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 12}]},
}


def _object(required: int, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:required],
        "additionalProperties": False,
    }


SHAPES: dict[str, Callable[[Schema], Schema]] = {
    "a call of a function": lambda leaf: _object(2, name={"const": "set_value"}, value=leaf),
    "optional properties": lambda leaf: _object(
        1, id={"enum": ["a1", "b2"]}, note={"type": "string", "maxLength": 4}, value=leaf
    ),
    "a list": lambda leaf: {"type": "array", "items": leaf, "minItems": 1, "maxItems": 3},
    "a map": lambda leaf: {
        "type": "object",
        "patternProperties": {"^[a-z]{1,3}$": leaf},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    },
    "definitions": lambda leaf: {
        "$defs": {"part": _object(1, value=leaf), "leaf": leaf},
        **_object(2, spec={"$ref": "#/$defs/part"}, status={"$ref": "#/$defs/leaf"}),
    },
}


def schemas(shape: str) -> Mapping[str, Schema]:
    """Returns the schemas of one shape, by the names of their leaves."""
    return {name: SHAPES[shape](leaf) for name, leaf in LEAVES.items()}
