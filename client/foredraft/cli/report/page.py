"""The page of a report: figures, the text, the time line and the rounds, for each sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from foredraft import ModelInfo, Result
from foredraft.cli.answer import NAMES, Row
from foredraft.cli.json_values import json_of
from foredraft.cli.report.rounds import ToldRound
from foredraft.cli.report.style import STYLE
from foredraft.cli.report.timeline import counted, timeline
from foredraft.cli.screen import Piece

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>foredraft: the rounds of one call</title>
<style>"""
_SHOWN = {"\n": "\u23ce", "\t": "\u21e5"}  # a token that is only a line or a tab is seen, too
_NUMBERS, _WORDS = ("round", "began", "waited", "verified"), ("proposal", "tokens", "wasted")


@dataclass(frozen=True, slots=True)
class Call:
    """What the page tells of the call."""

    prompt: str
    fields: Mapping[str, object]
    info: ModelInfo
    results: Sequence[Result]
    figures: Sequence[Row]


def page(call: Call, rounds: Sequence[Sequence[ToldRound]], texts: Mapping[int, str]) -> str:
    """Returns the page.

    Args:
        call: what was asked for, and what came.
        rounds: the rounds of each result.
        texts: the texts of tokens that were proposed and are not in the text.
    """
    told = {"model": call.info.model, "parameters": json_of(call.fields)}
    parts = [
        f"{_HEAD}{STYLE}</style>\n</head>\n<body>",
        "<h1>foredraft: the rounds of one call</h1>",
        _list([(name, escape(value)) for name, value in told.items()]),
        f"<details><summary>prompt</summary><pre>{escape(call.prompt)}</pre></details>",
        _list([(name, _spans(pieces)) for name, pieces in call.figures]),
        _legend(),
    ]
    for result, its_rounds in zip(call.results, rounds, strict=True):
        parts += _sequence(result, its_rounds, texts)
    return "\n".join([*parts, "</body>\n</html>\n"])


def _sequence(
    result: Result, rounds: Sequence[ToldRound], texts: Mapping[int, str]
) -> Sequence[str]:
    title = f"Sequence {result.sequence_index}: {counted(len(result.token_ids), 'token')}"
    head = f"<section><h2>{title}</h2>"
    if not rounds:
        return [head, "<p>The service tells no rounds.</p></section>"]
    text = _spans([piece for one in rounds for piece in one.tokens])
    return [
        head,
        f"<p>{_summary(result, rounds)}</p>",
        f'<div class="answer">{text}</div>',
        f'<div class="lines">{timeline(rounds)}</div>',
        f"<table><thead><tr>{_heads()}</tr></thead>",
        "<tbody>",
        *(_table_row(one, texts) for one in rounds),
        "</tbody></table></section>",
    ]


def _summary(result: Result, rounds: Sequence[ToldRound]) -> str:
    stats, beside = result.stats, result.origins.count("alternative")
    proposed = sum(len(one.round.proposed_ids) for one in rounds)
    wasted = sum(len(one.wasted_ids) for one in rounds)
    return (
        f"{counted(len(rounds), 'round')}, {counted(proposed, 'token')} proposed: "
        f"{proposed - wasted} in the text, {wasted} wasted. "
        f"{counted(beside, 'alternative')} came in place of a proposed token. The target waited "
        f"{stats.waited_s:.3f} s for proposals, and {stats.hidden_s:.3f} s of drafting were hidden."
    )


def _table_row(one: ToldRound, texts: Mapping[int, str]) -> str:
    told = one.round
    verified_s = told.ended_s - told.began_s - told.waited_s
    numbers = (told.began_s, told.waited_s, verified_s)
    wasted = "".join(
        f'<span class="wasted">{_visible(texts.get(token, f"#{token} "))}</span>'
        for token in one.wasted_ids
    )
    cells = [
        f'<td class="number">{one.number}</td>',
        *(f'<td class="number">{1000 * seconds:.1f} ms</td>' for seconds in numbers),
        f"<td>{escape(_how(one))}</td>",
        f'<td class="tokens">{_spans(one.tokens, visible=True)}</td>',
        f'<td class="tokens">{wasted}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _how(one: ToldRound) -> str:
    """Returns where a proposal came from, and how."""
    told = one.round
    if told.proposed_by is None:
        return f"none: {told.fallback}" if told.fallback else "none"
    when = "drafted ahead" if told.drafted_ahead else "waited for" if told.drafting_s else ""
    why = f"draft service: {told.fallback}" if told.fallback else ""
    count = counted(len(told.proposed_ids), "token")
    beside = counted(len(told.alternatives), "alternative") if told.alternatives else ""
    return ", ".join(filter(None, [NAMES[told.proposed_by], count, beside, when, why]))


def _heads() -> str:
    numbers = [f'<th class="number">{name}</th>' for name in _NUMBERS]
    return "".join([*numbers, *(f"<th>{name}</th>" for name in _WORDS)])


def _legend() -> str:
    kinds = [f'<span class="{origin}">{name}</span>' for origin, name in NAMES.items()][:-1]
    others = [
        '<span class="wasted">proposed and wasted</span>',
        '<span class="waited">waited</span>',
    ]
    return f"<p>Tokens: {', '.join([*kinds, *others])}</p>"


def _list(rows: Sequence[tuple[str, str]]) -> str:
    """Returns a list of names and values; values are HTML."""
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>"


def _spans(pieces: Sequence[Piece], visible: bool = False) -> str:
    shown = _visible if visible else escape
    return "".join(f'<span class="{origin}">{shown(text)}</span>' for text, origin in pieces)


def _visible(text: str) -> str:
    return escape("".join(_SHOWN.get(letter, letter) for letter in text))
