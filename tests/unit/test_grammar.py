"""Masks and forced tokens are functions of the text, whatever was asked before."""

import json
import random
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits import grammar_compiler
from foredraft_engine.logits.grammar import Grammar, GrammarText
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.sampling import ResponseFormat
from tests.grammars import ascii_tokenizer, tokenizer_of
from tests.models import bundled

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["alpha", "beta", "be"]},
        "tags": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "kind", "tags"],
    "additionalProperties": False,
}
FORMATS = {
    "schema": ResponseFormat("json_schema", json.dumps(PERSON)),
    "object": ResponseFormat("json_object", ""),
    "regex": ResponseFormat("regex", "(abc|a|12)+(true)?"),
    "Lark": ResponseFormat("grammar", 'start: "a" start "b" | "name"'),
    "GBNF": ResponseFormat("grammar", 'root ::= "a" root "b" | "true"'),
    "choice": ResponseFormat("choice", json.dumps(["true", "tr", "name", ""])),
    "tag": ResponseFormat(
        "structural_tag",
        json.dumps(
            {
                "triggers": ["<a"],
                "structures": [{"begin": "<a1>", "schema": json.dumps(PERSON), "end": "</a>"}],
            }
        ),
    ),
}
formats = pytest.mark.parametrize("name", FORMATS)


@lru_cache
def _compiler() -> GrammarCompiler:
    return GrammarCompiler(ascii_tokenizer())


@lru_cache
def _grammar(name: str) -> Grammar:
    return _compiler().compile(FORMATS[name])


def _ends() -> tuple[int, ...]:
    return (int(ascii_tokenizer().eos_token_id),)


def _held(name: str) -> GrammarText:
    return GrammarText(_grammar(name), _ends())


def _ids(mask: NDArray[np.int32]) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))]


def _walk(held: GrammarText, seed: int, most: int = 40) -> list[int]:
    """Returns a text that the grammar allows, up to its end if that comes."""
    text = _walk_to(held, _ends()[0], seed, most)
    return text if len(text) == most else [*text, *_ends()]


def _walk_to(held: GrammarText, end: int, seed: int, most: int = 40) -> list[int]:
    draw, text = random.Random(seed), list[int]()
    while len(text) < most and (token := draw.choice(_ids(held.masks(text, 1)[0]))) != end:
        text.append(token)
    return text


@formats
def test_a_mask_depends_on_the_text_alone(name: str) -> None:
    """Blocks, branches and rollbacks at random give what a new parser gives."""
    draw, held = random.Random(7), _held(name)
    texts = [_walk(_held(name), seed) for seed in range(4)]
    for _ in range(60):
        text = draw.choice(texts)
        count = draw.randint(1, min(6, len(text) + 1))
        text = text[: draw.randint(count - 1, len(text))]
        fresh = np.concatenate(
            [_held(name).masks(text[: len(text) - i], 1) for i in reversed(range(count))]
        )
        np.testing.assert_array_equal(held.masks(text, count), fresh)
        assert held.forced(text) == _held(name).forced(text)


@formats
def test_forced_tokens_are_all_that_may_come(name: str) -> None:
    held, found = _held(name), 0
    for seed in range(12):
        text = _walk(held, seed)
        for at in range(len(text)):
            forced = held.forced(text[:at])
            found += len(forced)
            for i, token in enumerate(forced):
                assert _ids(held.masks([*text[:at], *forced[:i]], 1)[0]) == [token]
    assert found or name in ("object", "regex", "tag")


def test_forced_text_has_the_tokens_that_the_models_tokenizer_makes_of_it() -> None:
    tokenizer = bundled("target").tokenizer
    text = '{"description": "", "identifier_of_customer": 17, "λόγος": "😀"}'
    pattern = "".join(f"\\x{{{ord(one):x}}}" for one in text)
    grammar = GrammarCompiler(tokenizer).compile(ResponseFormat("regex", pattern))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert GrammarText(grammar, (0,)).forced(()) == (*ids, 0)


def test_a_text_ends_where_the_grammar_lets_it_and_nowhere_else() -> None:
    tokenizer, held = ascii_tokenizer(), _held("choice")
    (end,) = _ends()
    for text, may_end in (("", True), ("t", False), ("tr", True), ("tru", False), ("true", True)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert (end in _ids(held.masks(ids, 1)[0])) is may_end, text
    ids = tokenizer("true", add_special_tokens=False)["input_ids"]
    assert _ids(held.masks(ids, 1)[0]) == [end]
    assert held.forced(ids) == (end,)
    # Nothing is asked of what follows the end, or a token that was not allowed.
    assert (held.masks([*ids, end, 5], 3)[1:] == -1).all()
    assert (held.masks([*ids[:1], 5, 6], 3)[1:] == -1).all()


def test_calls_have_ends_of_their_own() -> None:
    """An end may be any token, also one that a text could hold, and there may be several."""
    a, b = (ascii_tokenizer().convert_tokens_to_ids(one) for one in "ab")
    held = GrammarText(_grammar("regex"), (b, *_ends()))
    assert b not in _ids(held.masks((), 1)[0])
    assert {b, *_ends()} <= set(_ids(held.masks([a], 1)[0]))
    assert not held.holds([a, b])
    assert not GrammarText(_grammar("regex"), ()).masks([a], 1)[0].view(np.uint32)[-1] >> 31


def test_bytes_of_one_character_may_be_apart() -> None:
    """A token may be a part of a character, which nothing but its other bytes may follow."""
    tokenizer = tokenizer_of("".join(map(chr, (0xE9, 0x20AC, 0x1F600))))
    grammar = GrammarCompiler(tokenizer).compile(ResponseFormat("choice", '["€", "é😀"]'))
    held = GrammarText(grammar, (tokenizer.eos_token_id,))
    texts = {tokenizer.decode(_walk_to(held, tokenizer.eos_token_id, seed)) for seed in range(9)}
    assert texts == {"€", "é😀"}


REFUSED = {
    "no JSON": ("json_schema", "{", "Expecting property name"),
    "no object": ("json_schema", "[]", "a JSON schema is an object"),
    "nothing meets it": ("json_schema", '{"enum": []}', "anyOf is empty"),
    "a contradiction": (
        "json_schema",
        '{"type": "integer", "minimum": 5, "maximum": 3}',
        "minimum",
    ),
    "an unknown keyword": ("json_schema", '{"not": {}}', '["not"]'),
    "an unknown format": ("json_schema", '{"type": "string", "format": "x"}', "Unknown format: x"),
    "a schema elsewhere": ("json_schema", '{"$ref": "http://a/b"}', "does not fetch"),
    "a look ahead": ("regex", "(?=a)b", "look-around"),
    "no expression": ("regex", "(", "unclosed group"),
    "no text": ("regex", "[^\\x{0}-\\x{10FFFF}]", ""),
    "an unknown rule": ("grammar", "start: other", "unknown name"),
    "an unknown GBNF rule": ("grammar", "root ::= other", "other"),
    "no trigger": ("structural_tag", '{"triggers": ["<b"], "structures": [%s]}', "no trigger"),
    "an idle trigger": ("structural_tag", '{"triggers": ["<a", "x"], "structures": [%s]}', "'x'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_met_is_refused_with_the_reason(name: str) -> None:
    kind, text, reason = REFUSED[name]
    text = text.replace("%s", json.dumps({"begin": "<a>", "schema": "{}", "end": ""}))
    with pytest.raises(InvalidFieldError, match="response_format") as raised:
        _compiler().compile(ResponseFormat(kind, text))
    assert reason in raised.value.reason
    assert "\n" not in raised.value.reason


def test_a_tokenizer_that_is_no_fast_one_is_refused() -> None:
    class Slow:
        pass

    slow: Any = Slow()
    with pytest.raises(InvalidFieldError, match="no fast one"):
        GrammarCompiler(slow).compile(FORMATS["object"])


def test_a_service_without_llguidance_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_compiler, "llguidance", None)
    with pytest.raises(InvalidFieldError, match="lacks llguidance"):
        _compiler().compile(FORMATS["object"])
