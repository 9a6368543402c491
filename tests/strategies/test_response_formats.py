"""Texts that are held to a format: each holds to it, and is what it would be without a draft."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import pytest

from foredraft import AsyncClient, InvalidRequestError, Result
from tests.fakes import TableRows
from tests.grammars import ascii_tokenizer, held_model, json_table
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of
from tests.schemas import SHAPES, Schema, schemas

TOKENIZER = ascii_tokenizer()
END = int(TOKENIZER.eos_token_id)
TABLE = json_table(TOKENIZER, 1)
_PLAIN = {"num_assistant_tokens": 0}
_DRAFTED = {
    "num_assistant_tokens": 4,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.0,
}
_SAMPLED = {"do_sample": True, "top_k": 0, "temperature": 0.9}
# Calls whose texts are equal: with a draft and without.
EQUAL: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": {**_SAMPLED, "seed": 5},
    "watermarked": {**_SAMPLED, "seed": 6, "watermarking_config": {"bias": 2.0}},
    "tournament": {**_SAMPLED, "seed": 7, "watermarking_config": {"keys": [1, 2], "ngram_len": 3}},
    "few candidates": {**_SAMPLED, "seed": 8, "top_k": 2, "top_p": 0.9, "repetition_penalty": 1.2},
}
ALONE: dict[str, dict[str, Any]] = {
    "rejection": {**_SAMPLED, **_DRAFTED, "sampling_rule": "rejection"},
    "several": {**_SAMPLED, **_DRAFTED, "seed": 9, "num_return_sequences": 3},
    "beams": {"num_beams": 3},
    "beam sampling": {**_SAMPLED, "num_beams": 3, "seed": 4},
    "diverse beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "guidance": {"guidance_scale": 1.5, **_DRAFTED},
    "cleaned": {"remove_invalid_values": True, "renormalize_logits": True, **_DRAFTED},
}


@asynccontextmanager
async def services(outcomes: int = 0) -> AsyncIterator[AsyncClient]:
    """A target and a draft that often is right, and drafts ahead for some outcomes if it is to."""
    settings: dict[str, Any] = {"draft_timeout": 60.0, "outcomes": outcomes}
    draft_rows = TableRows(0.7 * TABLE + 0.4 * json_table(TOKENIZER, 2))
    model = held_model(TOKENIZER)
    async with (
        draft_service(draft_rows, model, ngram="off") as draft,
        target_service(TableRows(TABLE), model, draft.address, **settings) as target,
        AsyncClient(target.address, timeout=300) as client,
    ):
        yield client


async def _text(client: AsyncClient, schema: Schema, **fields: Any) -> list[str]:
    wanted: Any = {"type": "json_schema", "json_schema": {"schema": schema}}
    settings = {"max_new_tokens": 160, "eos_token_id": [END], **fields}
    answer: Any = await client.generate([40, 41], response_format=wanted, **settings)
    results: list[Result] = answer if isinstance(answer, list) else [answer]
    for result in results:
        assert result.finish_reason == "eos_token", result.text
        jsonschema.validate(json.loads(result.text), schema)
    return [result.text for result in results]


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_text_holds_to_its_schema(shape: str) -> None:
    async with services() as client:

        async def check(name: str, schema: Schema) -> None:
            for kind in ("greedy", "coupled"):
                plain = await _text(client, schema, **EQUAL[kind], **_PLAIN)
                assert await _text(client, schema, **EQUAL[kind], **_DRAFTED) == plain, name
            await _text(client, schema, **ALONE["rejection"])

        async with asyncio.TaskGroup() as group:
            for name, schema in schemas(shape).items():
                group.create_task(check(name, schema))


_PERSON: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "true": {"type": "boolean"},
        "kind": {"enum": ["abc", "12", "ab"]},
        "size": {"type": "integer", "minimum": 1, "maximum": 999},
    },
    "required": ["name", "true", "kind", "size"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("kind", EQUAL)
async def test_a_draft_changes_nothing(kind: str) -> None:
    async with services(outcomes=8) as client:
        plain = await _text(client, _PERSON, **EQUAL[kind], **_PLAIN)
        assert await _text(client, _PERSON, **EQUAL[kind], **_DRAFTED) == plain


@pytest.mark.parametrize("kind", ALONE)
async def test_every_way_to_decode_holds_to_the_format(kind: str) -> None:
    async with services() as client:
        await _text(client, _PERSON, **ALONE[kind])


async def test_contrastive_search_ranks_allowed_tokens_alone() -> None:
    """There are fewer of them than candidates."""
    model = bundled("target")
    wanted: Any = {"type": "choice", "choice": ["return self", "raise ValueError", "pass"]}
    async with (
        target_service(rows_of(model.module), model) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(
            "def f(self):\n    ",
            response_format=wanted,
            penalty_alpha=0.6,
            top_k=5,
            eos_token_id=model.tokenizer.eos_token_id,
        )
    assert result.text in wanted["choice"]
    assert result.finish_reason == "eos_token"


FORMATS: dict[str, tuple[Any, str]] = {
    "regex": ({"type": "regex", "regex": "(abc|12)+x"}, "(abc|12)+x"),
    "choice": ({"type": "choice", "choice": ["a.b", "true"]}, r"a\.b|true"),
    "nothing": ({"type": "choice", "choice": [""]}, ""),
    "Lark": ({"type": "grammar", "grammar": 'start: "a" /[1-3]/ start | "b"'}, "(a[1-3])*b"),
    "GBNF": ({"type": "grammar", "grammar": 'root ::= [a-c]+ "." root | "x"'}, r"([a-c]+\.)*x"),
    "any": ({"type": "text"}, r"(?s).*"),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_other_formats(name: str) -> None:
    wanted, pattern = FORMATS[name]
    async with services() as client:
        for fields in (EQUAL["coupled"], ALONE["rejection"]):
            result = await client.generate(
                [40, 41],
                response_format=wanted,
                eos_token_id=[END],
                max_new_tokens=200,
                **{**_DRAFTED, **fields},
            )
            assert re.fullmatch(pattern, result.text)
            assert result.finish_reason == "eos_token" or name == "any"


async def test_structures_within_a_text() -> None:
    structure = {"begin": "<f>", "schema": _PERSON, "end": "</f>"}
    tag = {"structures": [structure], "triggers": ["<f"]}
    wanted: Any = {"type": "structural_tag", "structural_tag": tag}
    found = 0
    async with services() as client:
        begin, then = TOKENIZER("<f", add_special_tokens=False)["input_ids"]
        likely: list[tuple[tuple[int, ...], float]] = [((begin,), 3.0), ((begin, then), 9.0)]
        results = await client.generate(
            [40, 41],
            response_format=wanted,
            eos_token_id=[END],
            max_new_tokens=300,
            num_return_sequences=24,
            sequence_bias=likely,
            **{**_DRAFTED, **EQUAL["coupled"]},
        )
        for result in results:
            for inside in re.findall("<f>(.*?)</f>", result.text):
                jsonschema.validate(json.loads(inside), _PERSON)
                found += 1
    assert found


async def test_a_text_is_cut_and_goes_on() -> None:
    """Three cuts: at its longest, at a stop string, and in a call after the tokens of another."""
    wanted: Any = {"type": "json_schema", "json_schema": {"schema": _PERSON}}
    fields: dict[str, Any] = {"response_format": wanted, "eos_token_id": [END], **_DRAFTED}
    async with services() as client:
        whole = await client.generate([40, 41], max_new_tokens=160, **fields)
        cut = await client.generate([40, 41], max_new_tokens=9, **fields)
        assert cut.finish_reason == "length"
        assert whole.token_ids[:9] == cut.token_ids
        rest = await client.generate(
            [40, 41], max_new_tokens=150, generated_ids=cut.token_ids, **fields
        )
        assert (*cut.token_ids, *rest.token_ids) == whole.token_ids
        stopped = await client.generate(
            [40, 41], max_new_tokens=160, stop_strings='"kind"', **fields
        )
        assert stopped.finish_reason == "stop_string"
        assert whole.text.startswith(stopped.text)


REFUSED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no end": ({"eos_token_id": []}, {"response_format", "eos_token_id"}),
    "a forced end": ({"forced_eos_token_id": END}, {"response_format", "forced_eos_token_id"}),
    "a forced beginning": ({"forced_bos_token_id": 3}, {"response_format", "forced_bos_token_id"}),
    "equal scores": (
        {"watermarking_config": {"keys": [1], "ngram_len": 2, "debug_mode": True}},
        {"response_format", "watermarking_config"},
    ),
    "too long": ({"min_new_tokens": 400}, {"response_format", "min_new_tokens"}),
    "a banned brace": (
        {"suppress_tokens": [TOKENIZER.convert_tokens_to_ids("{")]},
        {"response_format", "suppress_tokens"},
    ),
    "other tokens before": ({"generated_ids": [3, 4]}, {"response_format", "generated_ids"}),
    "no schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": []}}}},
        {"response_format"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_contradicts_is_refused_by_name(name: str) -> None:
    fields, named = REFUSED[name]
    wanted: Any = {"type": "json_schema", "json_schema": {"schema": _PERSON}}
    settings = {"response_format": wanted, "eos_token_id": [END], "max_new_tokens": 450, **fields}
    async with services() as client:
        with pytest.raises(InvalidRequestError) as raised:
            await client.generate([40], **settings)
    assert set(raised.value.fields) & named, raised.value
    assert "response_format" in str(raised.value) or set(raised.value.fields) < named


BEAMS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 4},
    "sampled": {"num_beams": 4, "do_sample": True, "seed": 1},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
}


@pytest.mark.parametrize("kind", BEAMS)
async def test_a_search_for_more_texts_than_a_format_has_is_refused(kind: str) -> None:
    wanted: Any = {"type": "choice", "choice": ["x"]}
    fields: dict[str, Any] = {"response_format": wanted, "eos_token_id": [END], **BEAMS[kind]}
    async with services() as client:
        assert (await client.generate([40], **fields)).text == "x"
        with pytest.raises(InvalidRequestError, match="asks for 4 texts") as refused:
            await client.generate([40], num_return_sequences=4, **fields)
    assert set(refused.value.fields) == {"num_return_sequences", "response_format"}
