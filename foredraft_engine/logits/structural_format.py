"""Structural tags of the newer form, which is XGrammar's, as llguidance's Lark.

A format is a tree: constant strings, JSON, regular expressions and grammars, put together as
sequences, choices and tags. Text that may be anything ends at the constant that comes after it.
This module knows nothing of tokens but the names of special ones.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_TEXT = "TEXT: /(.|\\n)*/"
_MOST_DEPTH = 64

After = tuple[str, ...] | None
"""The strings of which one comes next; none if it is something else; None at the end."""


@dataclass(frozen=True, slots=True)
class _Part:
    """An expression of Lark, and whether it has what comes after it, too."""

    lark: str
    has_after: bool = False


@dataclass(slots=True)
class FormatWriter:
    """Writes the grammar of one format."""

    special: Mapping[str, int]
    """The special tokens of the model, which no text can spell, with their ids."""
    styled: Callable[[Any], Any]
    """Says in a schema how its JSON is written."""
    lark_of: Callable[[str], str]
    """Returns a grammar in Lark, of whatever form it has."""
    rules: list[str] = field(default_factory=list)
    grammars: list[str] = field(default_factory=list)

    def written(self, described: Any) -> str:
        """Returns the grammar of a format as llguidance reads it.

        Raises:
            ValueError: the format is none, or llguidance cannot express it.
        """
        start = self._part(described, None, 0).lark
        lines = ["%llguidance {}", f"start: {start}", *self.rules]
        main = "\n".join([*lines, _TEXT] if any("TEXT" in line for line in lines) else lines)
        named = [{"name": "structure", "lark_grammar": main}]
        named += [{"name": f"g{i}", "lark_grammar": text} for i, text in enumerate(self.grammars)]
        return json.dumps({"grammars": named})

    def _part(self, described: Any, after: After, depth: int) -> _Part:
        kind = described.get("type") if isinstance(described, dict) else None
        if depth > _MOST_DEPTH:
            raise ValueError(f"a structural tag is at most {_MOST_DEPTH} formats deep")
        match kind:
            case "const_string":
                return _Part(self._literal(_given(described, "value", str)))
            case "json_schema":
                _only(described, "json_schema")
                schema = _given(described, "json_schema", dict)
                return _Part(f"%json {json.dumps(self.styled(schema))}")
            case "regex":
                _only(described, "pattern")
                pattern = _unslashed(_given(described, "pattern", str))
                return _Part(f"/{pattern}/" if pattern else '""')
            case "grammar":
                self.grammars.append(self.lark_of(_given(described, "grammar", str)))
                return _Part(f"@g{len(self.grammars) - 1}")
            case "any_text":
                _only(described)
                return self._text(after)
            case "sequence":
                return self._sequence(_given(described, "elements", list), after, depth)
            case "or":
                parts = [
                    self._closed(one, after, depth) for one in _given(described, "elements", list)
                ]
                return _Part(_choice(parts), has_after=bool(after))
            case "tag":
                return _Part(self._tag(described, depth))
            case "triggered_tags":
                return self._triggered(described, after, depth)
            case "tags_with_separator":
                return _Part(self._separated(described, depth))
        raise ValueError(f"a structural tag has the format {kind!r}, which is not offered")

    def _closed(self, described: Any, after: After, depth: int) -> str:
        """Returns an expression that has what comes after it."""
        part = self._part(described, after, depth + 1)
        return part.lark if part.has_after or not after else f"{part.lark} {self._either(after)}"

    def _sequence(self, elements: Sequence[Any], after: After, depth: int) -> _Part:
        if not elements:
            raise ValueError("a sequence has no elements")
        written, skip = [], False
        for one, following in zip(elements, [*elements[1:], None], strict=True):
            if skip:
                skip = False
                continue
            is_last = following is None
            next_ = after if is_last else _constant(following)
            part = self._part(one, next_, depth + 1)
            written.append(part.lark)
            skip = part.has_after
        return _Part(" ".join(written), has_after=skip)

    def _text(self, after: After) -> _Part:
        """Returns text that may be anything, up to what comes after it."""
        if after is None:
            return _Part("TEXT")
        if not all(after) or not after:
            raise ValueError("any_text needs a constant string after it, or the end of the text")
        return _Part(self._until("TEXT", after), has_after=True)

    def _until(self, text: str, ends: Sequence[str]) -> str:
        """Returns the shortest text that has one of the strings at its end."""
        if all(end in self.special for end in ends):
            return f"{text} {self._either(ends)}"
        self._refuse_special(ends)
        name = f"until_{len(self.rules)}"
        self.rules.append(f"{name}[lazy]: {text} {self._either(ends)}")
        return name

    def _tag(self, tag: Any, depth: int, trigger: str = "") -> str:
        """Returns a tag without its trigger."""
        if not isinstance(tag, dict):
            raise ValueError("a tag has begin, content and end")
        _only(tag, "begin", "content", "end")
        begin = self._literal(_given(tag, "begin", str)[len(trigger) :])
        ends = tag.get("end")
        ends = (ends,) if isinstance(ends, str) else tuple(ends or ())
        if not ends or not all(isinstance(end, str) for end in ends):
            raise ValueError("a tag has begin, content and end")
        return f"{begin} {self._closed(tag.get('content'), ends, depth)}"

    def _triggered(self, described: Any, after: After, depth: int) -> _Part:
        flags = "at_least_one", "stop_after_first"
        _only(described, "triggers", "tags", *flags)
        first, once = (bool(described.get(flag)) for flag in flags)
        triggers, tags = (_given(described, name, list) for name in ("triggers", "tags"))
        bare = [self._tag(tag, depth) for tag in tags] if first else []
        if first and once:
            return _Part(_choice(bare))
        if after is not None:
            raise ValueError("triggered_tags let any text follow, so they have to be the last")
        found = [self._tag_after_text(tag, triggers, depth) for tag in tags]
        if unused := [t for t in triggers if not any(_begins(tag, t) for tag in tags)]:
            raise ValueError(f"the trigger {unused[0]!r} begins no tag")
        if once:
            return _Part(_choice([*found, "TEXT"]))
        return _Part(f"{_choice(bare) if first else ''} {_choice(found)}* TEXT".strip())

    def _tag_after_text(self, tag: Any, triggers: Sequence[Any], depth: int) -> str:
        trigger = max((t for t in triggers if _begins(tag, t)), key=len, default="")
        if not trigger:
            raise ValueError(f"no trigger is the beginning of {tag!r}"[:200])
        return f"{self._until('TEXT', (trigger,))} {self._tag(tag, depth, trigger)}"

    def _separated(self, described: Any, depth: int) -> str:
        flags = "at_least_one", "stop_after_first"
        _only(described, "tags", "separator", *flags)
        first, once = (bool(described.get(flag)) for flag in flags)
        tag = _choice([self._tag(one, depth) for one in _given(described, "tags", list)])
        separator = self._literal(_given(described, "separator", str))
        tags = tag if once else f"{tag} ({separator} {tag})*"
        return tags if first else f"({tags})?"

    def _literal(self, text: str) -> str:
        """Returns a constant; special tokens in it are tokens."""
        if not text:
            return '""'
        if not self.special:
            return json.dumps(text)
        longest_first = sorted(self.special, key=len, reverse=True)
        pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        return " ".join(
            f"<[{self.special[piece]}]>" if piece in self.special else json.dumps(piece)
            for piece in pieces
            if piece
        )

    def _either(self, ends: Sequence[str]) -> str:
        return _choice([self._literal(end) for end in ends])

    def _refuse_special(self, ends: Sequence[str]) -> None:
        if any(token in end for end in ends for token in self.special):
            raise ValueError("text ends at a special token or at a string without one")


def _constant(described: Any) -> tuple[str, ...]:
    """Returns the string that a format is, if it is a constant one."""
    is_constant = isinstance(described, dict) and described.get("type") == "const_string"
    value = described.get("value") if is_constant else None
    return (value,) if isinstance(value, str) else ()


def _begins(tag: Any, trigger: Any) -> bool:
    begin = tag.get("begin") if isinstance(tag, dict) else None
    if not isinstance(begin, str) or not isinstance(trigger, str):
        return False
    return bool(trigger) and begin.startswith(trigger)


def _choice(parts: Sequence[str]) -> str:
    if not parts:
        raise ValueError("a list of a structural tag is empty")
    return parts[0] if len(parts) == 1 and " " not in parts[0] else f"({' | '.join(parts)})"


def _given(described: Mapping[str, Any], name: str, kind: type) -> Any:
    value = described.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"the format {described.get('type', 'tag')!r} has no {name} as it should")
    return value


def _only(described: Mapping[str, Any], *names: str) -> None:
    """Refuses keys that change the meaning and are not known here; empty ones change nothing."""
    known = {"type", *names}
    if unknown := sorted(str(k) for k, v in described.items() if v and k not in known):
        raise ValueError(f"{unknown[0]!r} of {described.get('type', 'a tag')!r} is not offered")


def _unslashed(pattern: str) -> str:
    """Returns a pattern for between slashes, on one line."""
    return re.sub(r"\\.|/|\n", lambda m: {"/": r"\/", "\n": r"\n"}.get(m[0], m[0]), pattern)
