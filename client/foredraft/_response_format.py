"""What a text can be held to, as OpenAI's API writes it: types for hints.

This module knows nothing of grammars.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, Protocol, TypedDict


class Text(TypedDict):
    """Any text."""

    type: Literal["text"]


class JsonObject(TypedDict):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(TypedDict):
    """A JSON schema."""

    schema: Mapping[str, Any]
    name: NotRequired[str]
    """A name for people, which changes nothing; so does the description."""
    description: NotRequired[str]
    strict: NotRequired[bool]
    """Whether the text always holds to the schema, which it does here."""


class JsonSchemaFormat(TypedDict):
    """JSON that is valid under a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(TypedDict):
    """A match of a regular expression."""

    type: Literal["regex"]
    regex: str


class GrammarFormat(TypedDict):
    """A sentence of a grammar, in Lark's syntax or in GBNF."""

    type: Literal["grammar"]
    grammar: str


class ChoiceFormat(TypedDict):
    """One of several strings."""

    type: Literal["choice"]
    choice: Sequence[str]


class TaggedStructure(TypedDict):
    """JSON under a schema, between two strings."""

    begin: str
    schema: Mapping[str, Any]
    end: str


class StructuralTag(TypedDict):
    """Structures, and the strings with which they begin."""

    structures: Sequence[TaggedStructure]
    triggers: Sequence[str]


class StructuralTagFormat(TypedDict):
    """Any text, in which structures that are begun hold to their schemas."""

    type: Literal["structural_tag"]
    structural_tag: StructuralTag


class StructuralTreeFormat(TypedDict):
    """A tree of formats, in the form of XGrammar and of vLLM."""

    type: Literal["structural_tag"]
    format: Mapping[str, Any]


ResponseFormat = (
    Text
    | JsonObject
    | JsonSchemaFormat
    | RegexFormat
    | GrammarFormat
    | ChoiceFormat
    | StructuralTagFormat
    | StructuralTreeFormat
)
"""What a text has to be."""


class SupportsJsonSchema(Protocol):
    """A class that has a JSON schema, as those of pydantic do."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """Returns the schema."""
