"""Writes what is made from the table of generation fields: `make generated`.

    python client/generate_fields.py            writes the files
    python client/generate_fields.py --check    fails if one of them is not what the table says

The files are the GenerationConfig of the SDK, the GenerationConfig of the protobuf file between two
marks, and docs/fields.md.
"""

import sys
import textwrap
from pathlib import Path

from foredraft.wire.field import Applier, Field, Kind
from foredraft.wire.generation_fields import GENERATION_FIELDS

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "client" / "foredraft" / "_generation_config.py"
PROTO = ROOT / "protos" / "foredraft" / "v1" / "generation.proto"
DOCS = ROOT / "docs" / "fields.md"

_FIELDS = tuple(GENERATION_FIELDS.values())
_PYTHON = {
    Kind.BOOL: "bool",
    Kind.UINT: "int",
    Kind.FLOAT: "float",
    Kind.STRING: "str",
    Kind.STRINGS: "str | Sequence[str]",
    Kind.TOKEN_ID: "int",
    Kind.TOKEN_IDS: "int | Sequence[int]",
    Kind.SEQUENCES: "Sequence[Sequence[int]]",
    Kind.BIASES: "SequenceBiases",
    Kind.TOKEN_BIASES: "TokenBiases",
    Kind.EARLY_STOPPING: 'bool | Literal["never"]',
    Kind.DECAY: "tuple[int, float]",
    Kind.WATERMARK: "Mapping[str, object] | SupportsToDict",
    Kind.CACHE: "Mapping[str, object] | SupportsToDict",
    Kind.RESPONSE_FORMAT: "ResponseFormat | type[SupportsJsonSchema]",
}
_PROTOBUF = {
    Kind.BOOL: "bool",
    Kind.UINT: "uint32",
    Kind.FLOAT: "double",
    Kind.STRING: "string",
    Kind.STRINGS: "Strings",
    Kind.TOKEN_ID: "uint32",
    Kind.TOKEN_IDS: "TokenIds",
    Kind.SEQUENCES: "TokenIdsList",
    Kind.BIASES: "SequenceBiasList",
    Kind.TOKEN_BIASES: "TokenBiases",
    Kind.EARLY_STOPPING: "EarlyStopping",
    Kind.DECAY: "ExponentialDecay",
    Kind.WATERMARK: "WatermarkingConfig",
    Kind.CACHE: "CacheConfig",
    Kind.RESPONSE_FORMAT: "ResponseFormat",
}
_BEGIN = "  // Made by `make generated` from the table of generation fields."
_END = "  // End of what is made."

_CONFIG_HEAD = '''"""Generation parameters as a value.

`make generated` makes this file from the table in `foredraft.wire`; do not edit it.

It knows nothing of the wire, nor of which values a field may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from foredraft._response_format import ResponseFormat, SupportsJsonSchema

if TYPE_CHECKING:
    import transformers


SequenceBiases = Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]]
"""Numbers by the token sequences whose last logit they are added to."""
TokenBiases = Mapping[int, float] | Sequence[tuple[int, float]]
"""Numbers by the tokens whose logit they are added to."""


class SupportsToDict(Protocol):
    """An object that turns itself into a dictionary, as transformers' configs do."""

    def to_dict(self) -> dict[str, object]:
        """Returns the values by name."""


class GenerationFields(TypedDict, total=False):
    """The fields of a GenerationConfig as keyword arguments of a call.

    `num_return_sequences` is an argument of its own, since it decides what a call returns.
    """

'''
_CONFIG_CLASS = '''

@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """The parameters of a generation.

    A field that is None has the value of the model's own config, else transformers' default. The
    meanings are those of `transformers.GenerationConfig`, which is accepted wherever this is, and
    for what it lacks those of vLLM. Lengths count tokens, `max_time` counts seconds.

        GenerationConfig(max_new_tokens=64)
        GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9)
        GenerationConfig(stop_strings=["\\\\n\\\\n"], eos_token_id=[0, 2])
        GenerationConfig(num_assistant_tokens=0)       # plain decoding
        GenerationConfig(prompt_lookup_num_tokens=10)  # drafts by n-gram lookup alone
    """

'''
_CONFIG_TAIL = '''
    def __new__(cls, **values: object) -> GenerationConfig:
        """Refuses what is no field, with a suggestion."""
        from foredraft.wire.config import refuse_unknown

        refuse_unknown(values)
        return object.__new__(cls)

    def __repr__(self) -> str:
        """Shows the fields that are set, as transformers does."""
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        shown = ", ".join(f"{name}={value!r}" for name, value in values if value is not None)
        return f"GenerationConfig({shown})"

    def to_transformers(self) -> transformers.GenerationConfig:
        """Returns an equal `transformers.GenerationConfig`, to save, to push or to pass to a model.

        Raises:
            InvalidRequestError: transformers is not installed, or cannot do what a field asks for.
        """
        from foredraft._upstream import upstream_config

        return upstream_config(self)
'''


def _wrapped(text: str, indent: str, first: str = "") -> str:
    return textwrap.fill(
        text,
        100,
        initial_indent=indent + first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _docstring(field: Field) -> str:
    text = _wrapped(field.doc + ".", "    ", '"""')
    return f'{text}"""\n' if len(text.split("\n")[-1]) <= 97 else f'{text}\n    """\n'


def config_text() -> str:
    """Returns the module with GenerationConfig and GenerationFields."""
    keywords = "".join(
        f"    {f.name}: {_PYTHON[f.kind]} | None\n"
        for f in _FIELDS
        if f.name != "num_return_sequences"
    )
    declared = "".join(
        f"    {f.name}: {_PYTHON[f.kind]} | None = None\n{_docstring(f)}" for f in _FIELDS
    )
    return _CONFIG_HEAD + keywords + _CONFIG_CLASS + declared + _CONFIG_TAIL


def proto_text() -> str:
    """Returns generation.proto with the fields of the table between the two marks."""
    before, rest = PROTO.read_text().split(_BEGIN + "\n")
    after = rest.split(_END + "\n")[1]
    declared = "".join(
        _wrapped(f.doc + ".", "  // ")
        + f"\n  optional {_PROTOBUF[f.kind]} {f.name} = {f.number};\n"
        for f in _FIELDS
    )
    return f"{before}{_BEGIN}\n{declared}{_END}\n{after}"


def docs_text() -> str:
    """Returns docs/fields.md."""
    rows = "".join(
        f"| `{f.name}` | {f.kind.value} | {_shown(f.default)} | {_off(f)} | {_rule(f)} | "
        f"{f.scope.value} | {_appliers(f)} | {f.doc}. |\n"
        for f in _FIELDS
    )
    return (
        "# Generation fields\n\n"
        "`make generated` makes this page from the table in `client/foredraft/wire`. Names and\n"
        "meanings are those of transformers' `GenerationConfig`, at the end those of vLLM. A\n"
        "field that a call does not set has the value of the model's own generation config, else\n"
        "the default. The off values ask for nothing. A field that is set outside its scope is\n"
        "refused.\n\n"
        "| field | type | default | off | range | scope | applied by | meaning |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n" + rows
    )


def _shown(value: object) -> str:
    return "" if value is None else f"`{value}`"


def _off(field: Field) -> str:
    return ", ".join(map(_shown, field.off))


def _rule(field: Field) -> str:
    if field.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in field.choices)
    return field.range.rule if field.range else ""


def _appliers(field: Field) -> str:
    names = [
        str(part.name).lower().replace("_", " ") for part in Applier if part in field.applied_by
    ]
    return ", ".join(names)


def main() -> int:
    """Writes or checks the files; returns the exit code."""
    texts = {CONFIG: config_text(), PROTO: proto_text(), DOCS: docs_text()}
    stale = [file for file, text in texts.items() if not file.exists() or file.read_text() != text]
    if "--check" not in sys.argv[1:]:
        for file in stale:
            file.write_text(texts[file])
        return 0
    for file in stale:
        print(f"{file.relative_to(ROOT)} is not what the table says: make generated")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
