"""Structural tags of the newer form are held to what each format of theirs means."""

import json
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import Grammar, GrammarText
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.sampling import ResponseFormat
from tests.grammars import tokenizer_of

_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
JSON = {"type": "json_schema", "json_schema": _SCHEMA}
TEXT = {"type": "any_text"}
TAG = {"begin": "<f=x>", "content": JSON, "end": "</f>"}
CALL = '<f=x>{"a": 1}</f>'
STOP = {"type": "const_string", "value": "STOP"}
TRIGGERED = {"type": "triggered_tags", "triggers": ["<f="], "tags": [TAG]}
SEPARATED = {"type": "tags_with_separator", "tags": [TAG], "separator": ","}
ONCE = {"at_least_one": True, "stop_after_first": True}
THINK = {"type": "tag", "begin": "<think>", "content": TEXT, "end": "</think>"}

_SPECIAL = {"type": "tag", "begin": "<call>", "content": TEXT, "end": "<done>"}


def _row(*elements: Any) -> dict[str, Any]:
    return {"type": "sequence", "elements": elements}


def _one(*elements: Any) -> dict[str, Any]:
    return {"type": "or", "elements": elements}


CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "const_string": ({"type": "const_string", "value": 'a/"b'}, ['a/"b'], ["a", ""]),
    "regex": ({"type": "regex", "pattern": r"a/b\/[0-9]+"}, ["a/b/12"], ["a/b/", "a"]),
    "no regex": (_row({"type": "regex", "pattern": ""}, STOP), ["STOP"], [""]),
    "grammar": ({"type": "grammar", "grammar": 'root ::= "a" root "b" | "c"'}, ["aacbb"], ["acbb"]),
    "json_schema": (JSON, ['{"a": 1}'], ["{}", "1"]),
    "any_text": (TEXT, ["", "all { <f=y> of it"], []),
    "text before": (_row(TEXT, STOP, JSON), ['a STSTOP{"a": 1}', 'STOP{"a": 2}'], ["a STOP"]),
    "or": (_one(STOP, JSON), ["STOP", '{"a": 1}'], ["", "STOP{"]),
    "or before": (_row(_one(JSON, TEXT), STOP), ['{"a": 1}STOP', "xSTOP"], ["x", '{"a": 1}']),
    "tag": ({"type": "tag", **TAG}, [CALL], ["<f=x>", '{"a": 1}']),
    "text in a tag": (THINK, ["<think></think>", "<think>a < b</think>"], ["<think>a", "a"]),
    "two ends": ({**THINK, "end": ["!", "?"]}, ["<think>a!", "<think>?"], ["<think>"]),
    "triggered_tags": (TRIGGERED, ["", "a < b", f"a {CALL} b{CALL}"], ["<f=y>", '<f=x>{"b"']),
    "triggered, at least one": (
        {**TRIGGERED, "at_least_one": True},
        [f"{CALL} b{CALL}"],
        ["", "a"],
    ),
    "triggered, one": ({**TRIGGERED, **ONCE}, [CALL], ["", f"{CALL} "]),
    "triggered, at most one": (
        {**TRIGGERED, "stop_after_first": True},
        ["", "a", f"a {CALL}"],
        [f"{CALL} "],
    ),
    "tags_with_separator": (SEPARATED, ["", CALL, f"{CALL},{CALL}"], [f"{CALL},", "a"]),
    "separated, one": ({**SEPARATED, **ONCE}, [CALL], ["", f"{CALL},{CALL}"]),
    "special tokens": (_SPECIAL, ["<call><done>", "<call>a<d<done>"], ["<call>a", "a"]),
    "a special trigger": (
        {"type": "triggered_tags", "triggers": ["<call>"], "tags": [{**_SPECIAL, "content": JSON}]},
        ["a", 'a<call>{"a": 1}<done>b'],
        ["<call>a", "<done>"],
    ),
    "reasoning": (_row(THINK, TRIGGERED), [f"<think>a</think>b{CALL}"], ["b", f"<think>{CALL}"]),
}


@lru_cache
def _tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer with two special tokens beside the end."""
    tokenizer = tokenizer_of("".join(map(chr, range(32, 127))))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<call>", "<done>"]})
    return tokenizer


@lru_cache
def _compiler() -> GrammarCompiler:
    return GrammarCompiler(_tokenizer())


def _compiled(described: Any) -> Grammar:
    text = json.dumps({"format": json.dumps(described)})
    return _compiler().compile(ResponseFormat("structural_tag", text))


def _meets(grammar: Grammar, text: str) -> bool:
    """Whether a grammar allows a text and its end, token by token."""
    tokenizer = _tokenizer()
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    held = GrammarText(grammar, (tokenizer.eos_token_id,))
    for at, token in enumerate(ids):
        mask = np.unpackbits(held.masks(ids[:at], 1)[0].view(np.uint8), bitorder="little")
        if not mask[token]:
            return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_texts_that_a_format_has_and_has_not(name: str) -> None:
    described, has, has_not = CASES[name]
    grammar = _compiled(described)
    assert [text for text in has if not _meets(grammar, text)] == []
    assert [text for text in has_not if _meets(grammar, text)] == []


REFUSED: dict[str, Any] = {
    "'qwen_xml_parameter', which is not offered": {"type": "qwen_xml_parameter"},
    "None, which is not offered": [],
    "'style' of 'json_schema' is not offered": {**JSON, "style": "qwen_xml"},
    "'excludes' of 'triggered_tags' is not offered": {**TRIGGERED, "excludes": ["x"]},
    "has no value as it should": {"type": "const_string"},
    "no trigger is the beginning": {**TRIGGERED, "triggers": ["<g"]},
    "trigger '<g' begins no tag": {**TRIGGERED, "triggers": ["<f=", "<g"]},
    "have to be the last": _row(TRIGGERED, JSON),
    "any_text needs a constant string": _row(TEXT, JSON),
    "a tag has begin, content and end": {"type": "tag", "begin": "a", "content": JSON},
    "a sequence has no elements": _row(),
    "is empty": _one(),
    "formats deep": json.loads('{"type": "or", "elements": [' * 70 + "{}" + "]}" * 70),
    "Unimplemented keys": {"type": "json_schema", "json_schema": {"not": {}}},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(reason: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        _compiled(REFUSED[reason])
    assert reason in str(refused.value)
