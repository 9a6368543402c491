"""The time line of one sequence, as SVG: when was drafted, waited for and verified, and what came.

This module knows nothing of the page around it.
"""

from collections.abc import Iterator, Sequence
from html import escape

from foredraft.cli.report.rounds import ToldRound

_LEFT, _RIGHT = 64, 24  # pixels beside the lines
_NARROWEST, _WIDEST = 1000.0, 24_000.0  # pixels of the whole line
_ROUND = 14.0  # pixels of the shortest round, if they fit
_AXIS, _DRAFT, _TARGET, _TOKENS = 18, 30, 52, 84  # where lanes begin, from the top
_BAR, _SIDE, _STEP = 16, 8, 10  # the height of a bar; the side of a token, and the next one
_TICKS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_TICK = 80.0  # pixels between two ticks, at least


def timeline(rounds: Sequence[ToldRound]) -> str:
    """Returns the time line of the rounds of one sequence, of which there is at least one."""
    end_s = rounds[-1].round.ended_s
    shortest_s = min(one.round.ended_s - one.round.began_s for one in rounds)
    scale = min(max(_NARROWEST / end_s, _ROUND / max(shortest_s, 1e-6)), _WIDEST / end_s)
    deepest = max(len(one.tokens) + len(one.wasted_ids) for one in rounds)
    width, height = _LEFT + end_s * scale + _RIGHT, _TOKENS + deepest * _STEP + 10
    parts = [
        f'<svg width="{width:.0f}" height="{height}" role="img" '
        'aria-label="The rounds on a time line">',
        *_lane_names(),
        *_ticks(end_s, scale, height),
        _bar(
            "prompt", _TARGET, 0.0, rounds[0].round.began_s, scale, "waiting for a row, and prompt"
        ),
    ]
    for one in rounds:
        parts += _round(one, scale)
    return "\n".join([*parts, "</svg>"])


def _lane_names() -> Iterator[str]:
    for name, top in (("draft", _DRAFT), ("target", _TARGET), ("tokens", _TOKENS - 4)):
        yield f'<text x="8" y="{top + 12}">{name}</text>'


def _ticks(end_s: float, scale: float, height: float) -> Iterator[str]:
    step_s = next((step for step in _TICKS_S if step * scale >= _TICK), _TICKS_S[-1])
    for i in range(int(end_s / step_s) + 1):
        x = _LEFT + i * step_s * scale
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{_AXIS}" y2="{height}"/>'
        yield f'<text x="{x + 2:.1f}" y="12">{i * step_s:g} s</text>'


def _round(one: ToldRound, scale: float) -> Iterator[str]:
    told = one.round
    verified_s = told.began_s + told.waited_s
    yield f'<g class="round" id="round-{one.number}">'
    if told.drafting_s:
        began_s, ended_s = told.drafting_s
        hidden_s = max(began_s, min(told.began_s, ended_s))
        took = f"round {one.number}: the proposal took {_ms(ended_s - began_s)}"
        yield _bar("hidden", _DRAFT, began_s, hidden_s, scale, f"{took}, hidden")
        yield _bar("draft_model", _DRAFT, hidden_s, ended_s, scale, f"{took}, waited for")
    if told.waited_s:
        what = f"round {one.number}: waited {_ms(told.waited_s)}"
        yield _bar("waited", _TARGET, told.began_s, verified_s, scale, what)
    what = f"round {one.number}: verified {counted(len(told.proposed_ids), 'token')}"
    verified = f"{what} in {_ms(told.ended_s - verified_s)}, {one.accepted} accepted"
    yield _bar("target", _TARGET, verified_s, told.ended_s, scale, verified)
    kinds = [origin for _, origin in one.tokens] + ["wasted"] * len(one.wasted_ids)
    side = max(1.0, min(_SIDE, (told.ended_s - told.began_s) * scale - 2))
    x = _LEFT + told.began_s * scale + 1
    for i, kind in enumerate(kinds):
        y = _TOKENS + i * _STEP
        yield f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{side:.1f}" height="{_SIDE}"/>'
    yield "</g>"


def _bar(kind: str, top: int, begin_s: float, end_s: float, scale: float, what: str) -> str:
    """Returns a bar; empty if it has no length."""
    if end_s <= begin_s:
        return ""
    x, width = _LEFT + begin_s * scale, max(1.0, (end_s - begin_s) * scale - 1)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}">'
        f"<title>{escape(what)}</title></rect>"
    )


def counted(count: int, thing: str) -> str:
    """Returns a number of things in words."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
