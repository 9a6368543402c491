"""Compiles response formats to grammars, for the tokens of one model (llguidance; its parser is
Earley's, CACM 13, 1970, over derivatives of regular expressions, Brzozowski, JACM 11, 1964).

What a grammar may cost is bounded: its size, the states of its lexer, and the work of every mask.
This module knows nothing of who asks, or of how long that takes.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import FIELD, Grammar, GrammarText
from foredraft_engine.logits.structural_format import FormatWriter
from foredraft_engine.sampling import ResponseFormat

try:
    import llguidance
    from llguidance.gbnf_to_lark import any_to_lark
except ImportError:  # a draft can do without
    llguidance = None  # type: ignore[assignment]

_END = "<|the end of what a grammar allows|>"
# JSON is written as Python's json.dumps writes it, which models have seen most. So there is no
# choice between its tokens, and no white space without end. "x-guidance" in a schema goes over it.
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_REASON = 300  # characters of what llguidance says, since it may repeat the grammar
# llguidance calls itself for each rule that leads to another one, of which 64 KiB have thousands.
_STACK_BYTES = 256 << 20
_MOST_MASK_S = 0.1  # of computing: one mask holds up the steps of all other calls
_LIMITS = {
    "max_grammar_size": 25_000,  # symbols; a second or less of compiling
    "max_lexer_states": 25_000,  # a kilobyte or two each
    "initial_lexer_fuel": 1_000_000,  # some 20 ms
    "step_lexer_fuel": 200_000,  # some 15 ms of one mask
    "step_max_items": 50_000,  # some 3 ms of one mask
    "verbose_errors": False,
}

Special = Mapping[str, int]
"""The special tokens of a model, with their ids."""


class GrammarCompiler:
    """Compiles for the tokens of one model. Threads may share it."""

    def __init__(self, tokenizer: Any) -> None:
        """
        Args:
            tokenizer: the model's own, of transformers. It is read when the first format comes.
        """
        self._tokenizer, self._lock = tokenizer, threading.Lock()
        self._vocabulary: Any = None
        self._end_id = 0
        self._special: Special = {}

    def compile(self, wanted: ResponseFormat) -> Grammar:
        """Returns the grammar of a format. Blocks for a millisecond, at most for some seconds.

        Raises:
            InvalidFieldError: the format is none, nothing meets it, it is too large, or this model
                cannot be held to any.
        """
        if llguidance is None:
            raise InvalidFieldError(
                FIELD, "is not offered by this service, which lacks llguidance; leave it out"
            )
        with self._lock:
            self._read_tokenizer()
            made: Future[Grammar] = Future()
            usual = threading.stack_size(_STACK_BYTES)
            try:
                args = made, self._compiled, wanted
                threading.Thread(target=_settle, args=args, name="grammar", daemon=True).start()
            finally:
                threading.stack_size(usual)
        return made.result()

    def _compiled(self, wanted: ResponseFormat) -> Grammar:
        try:
            source = _SOURCES[wanted.kind](wanted.text, self._special)
            limits = llguidance.LLParserLimits(**_LIMITS)  # type: ignore[arg-type]
            matcher = llguidance.LLMatcher(self._vocabulary, source, limits=limits, log_level=0)
        # The library's own errors, and those of its converters: of any kind, for any text.
        except Exception as error:
            raise _refusal(str(error) or type(error).__name__) from error
        if matcher.is_error():
            raise _refusal(matcher.get_error())
        grammar = Grammar(matcher, self._end_id, self._vocabulary.is_canonical)
        # What fails at the first token would fail every call. The first mask also fills caches.
        text = GrammarText(grammar, ())
        text.masks((), 1)
        began = time.thread_time()
        masks = text.masks((), 1)
        if (took_s := time.thread_time() - began) > _MOST_MASK_S:
            raise _refusal(f"a mask takes {took_s:.1g} s, and may take {_MOST_MASK_S:g}")
        if not masks.any() and not matcher.is_accepting():
            raise _refusal("nothing meets it")
        return grammar

    def _read_tokenizer(self) -> None:
        """Reads the tokens, once, and adds one that stands for the end of a text."""
        if self._vocabulary is not None:
            return
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            reason = "is not offered with this model, whose tokenizer is no fast one; leave it out"
            raise InvalidFieldError(FIELD, reason)
        described = json.loads(backend.to_str())
        described |= {"padding": None, "truncation": None}
        self._end_id = max(self._tokenizer.get_vocab().values()) + 1
        end = {"id": self._end_id, "content": _END, "special": True}
        plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = described.setdefault("added_tokens", [])
        self._special = {one["content"]: one["id"] for one in added if one["special"]}
        added.append(end | plain)
        try:
            self._vocabulary = llguidance.LLTokenizer(json.dumps(described), eos_token=self._end_id)
        except Exception as error:  # the library raises ValueError, or panics
            reason = f"is not offered with this model, whose tokenizer llguidance refuses: {error}"
            raise InvalidFieldError(FIELD, reason[:_MOST_REASON]) from error


def _settle(
    made: Future[Grammar], compile_format: Callable[[ResponseFormat], Grammar], wanted: Any
) -> None:
    """Compiles in this thread, and tells the one that waits."""
    try:
        made.set_result(compile_format(wanted))
    except Exception as error:
        made.set_exception(error)


def _json_schema(text: str, special: Special) -> str:
    return str(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(_styled(json.loads(text)))))


def _json_object(text: str, special: Special) -> str:
    return _json_schema('{"type": "object"}', special)


def _regex(text: str, special: Special) -> str:
    return str(llguidance.LLMatcher.grammar_from_regex(text))


def _grammar(text: str, special: Special) -> str:
    return str(llguidance.LLMatcher.grammar_from_lark(any_to_lark(text)))


def _choice(text: str, special: Special) -> str:
    return _regex(f"(?:{'|'.join(re.escape(one) for one in json.loads(text))})", special)


def _structural_tag(text: str, special: Special) -> str:
    described = json.loads(text)
    if "format" in described:
        return FormatWriter(special, _styled, any_to_lark).written(json.loads(described["format"]))
    triggers, tags = described["triggers"], []
    for one in described["structures"]:
        begin = one["begin"]
        trigger = max((t for t in triggers if begin.startswith(t)), key=len, default="")
        if not trigger:
            raise ValueError(f"no trigger is the beginning of {begin!r}")
        tags.append(
            llguidance.StructTag(
                trigger=trigger,
                begin=begin,
                grammar=_styled(json.loads(one["schema"])),
                end=one["end"],
            )
        )
    if unused := [t for t in triggers if all(tag.trigger != t for tag in tags)]:
        raise ValueError(f"the trigger {unused[0]!r} begins no structure")
    are_special = {tag.trigger in special for tag in tags}
    if len(are_special) > 1:
        raise ValueError("some triggers are special tokens of the model, and others are not")
    return str(llguidance.StructTag.to_grammar(tags, assume_special=are_special.pop()))


_SOURCES: Mapping[str, Callable[[str, Special], str]] = {
    "json_schema": _json_schema,
    "json_object": _json_object,
    "regex": _regex,
    "grammar": _grammar,
    "choice": _choice,
    "structural_tag": _structural_tag,
}


def _styled(schema: Any) -> Any:
    """Returns a schema that says how its JSON is written, where it does not say so itself."""
    if not isinstance(schema, dict):
        raise ValueError("a JSON schema is an object")
    own = schema.get("x-guidance", {})
    return {**schema, "x-guidance": {**_JSON_STYLE, **own}}


def _refusal(reason: str) -> InvalidFieldError:
    """Returns the error that says why there is no grammar, in one line."""
    return InvalidFieldError(FIELD, f"cannot be met: {' '.join(reason.split())[:_MOST_REASON]}")
