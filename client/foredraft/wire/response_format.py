"""Response formats onto the wire and back.

This module knows nothing of grammars: the target compiles them, and refuses what cannot be met.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from foredraft.v1 import generation_pb2
from foredraft.wire.json_text import json_object

_TYPES = ("text", "json_object", "json_schema", "regex", "grammar", "choice", "structural_tag")
_OF_SCHEMAS = frozenset(["name", "description", "strict"])


def write_response_format(message: generation_pb2.ResponseFormat, value: Any) -> None:
    """Sets a format from the mapping that OpenAI's API has for it, or from a pydantic class.

    Raises:
        TypeError, ValueError: the value is no format.
    """
    if callable(schema := getattr(value, "model_json_schema", None)):
        value = {"type": "json_schema", "json_schema": {"schema": schema()}}
    if not isinstance(value, Mapping):
        raise TypeError("must be a mapping, such as {'type': 'json_object'}")
    kind = value.get("type")
    if kind not in _TYPES:
        raise ValueError(f"type is {kind!r}; it is one of {', '.join(_TYPES)}")
    content_key = _content_key(kind, value)
    _take(value, ("type", content_key) if content_key else ("type",), kind)
    content: Any = value.get(content_key)
    match kind:
        case "json_object":
            message.json_object.SetInParent()
        case "json_schema":
            _take(content, ("schema",), "json_schema", _OF_SCHEMAS)
            message.json_schema = json_object(content["schema"])
        case "regex" | "grammar":
            setattr(message, kind, _string(content))
        case "choice":
            message.choice.values[:] = map(_string, _listed(content))
            message.choice.SetInParent()
        case "structural_tag" if content_key == "format":
            message.structural_tag.format = json_object(content)
        case "structural_tag":
            _write_tag(message.structural_tag, content)


def read_response_format(message: generation_pb2.ResponseFormat) -> dict[str, Any]:
    """Returns the mapping of a format. A schema that is no JSON, of another caller, is its text."""
    kind = message.WhichOneof("format")
    match kind:
        case None:
            return {"type": "text"}
        case "json_object":
            return {"type": kind}
        case "json_schema":
            content: Any = {"schema": _read(message.json_schema)}
        case "choice":
            content = list(message.choice.values)
        case "structural_tag" if message.structural_tag.format:
            return {"type": kind, "format": _read(message.structural_tag.format)}
        case "structural_tag":
            structures = [
                {"begin": one.begin, "schema": _read(one.schema), "end": one.end}
                for one in message.structural_tag.structures
            ]
            triggers = list(message.structural_tag.triggers)
            content = {"structures": structures, "triggers": triggers}
        case _:
            content = getattr(message, kind)
    return {"type": kind, kind: content}


def _content_key(kind: str, value: Mapping[str, Any]) -> str:
    """Returns the key of what a format has beside its type; empty if it has nothing."""
    if kind == "structural_tag" and "format" in value:
        return "format"
    return "" if kind in ("text", "json_object") else kind


def _write_tag(message: generation_pb2.StructuralTag, value: Any) -> None:
    _take(value, ("structures", "triggers"), "structural_tag")
    for one in _listed(value["structures"]):
        _take(one, ("begin", "schema", "end"), "a structure")
        begin, end = _string(one["begin"]), _string(one["end"])
        message.structures.add(begin=begin, schema=json_object(one["schema"]), end=end)
    message.triggers[:] = map(_string, _listed(value["triggers"]))
    message.SetInParent()


def _take(
    value: Any, needed: Iterable[str], of: str, possible: frozenset[str] = frozenset()
) -> None:
    """Refuses what is no mapping with these keys."""
    needed = set(needed)
    if not isinstance(value, Mapping):
        raise TypeError(f"{of} must be a mapping with {', '.join(sorted(needed))}")
    if missing := sorted(needed - value.keys()):
        raise ValueError(f"{of} has no {missing[0]!r}")
    if unknown := sorted(map(str, value.keys() - needed - possible)):
        raise ValueError(f"{of} has {unknown[0]!r}, which is no part of it")


def _read(schema: str) -> Any:
    try:
        return json.loads(schema)
    except (ValueError, RecursionError):
        return schema


def _listed(value: Any) -> Iterable[Any]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError("must be a list")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a string")
    return value
