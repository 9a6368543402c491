"""Draws measured points as lines in SVG, on logarithmic axes: what grows in proportion is straight.

The colours are readable on light and on dark backgrounds. This module measures nothing.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 860, 420, 70, 70, 50
_RIGHT = 220  # room for the names of lines
_COLOURS, _TEXT = ("#2f81c7", "#8b949e"), "#6e7781"

Points = Sequence[tuple[float, float]]


def line_chart(title: str, note: str, lines: Mapping[str, Points]) -> str:
    """Returns an SVG with a line for each name. Places on the first axis may be 0."""
    everything = [point for points in lines.values() for point in points]
    across = _Axis([x + 1 for x, _ in everything], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([y for _, y in everything], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="20" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="0" y="42">{escape(note)}</text>',
    ]
    for x in sorted({x for x, _ in everything}):
        parts.append(
            f'<text x="{across.at(x + 1):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{x:g}</text>'
        )
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        places = [(across.at(x + 1), up.at(y)) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        for (x, y), (_, value) in zip(places, points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            parts.append(f'<text x="{x - 8:.1f}" y="{y - 8:.1f}">{value:.3g}</text>')
        x, y = places[-1]
        parts.append(
            f'<text x="{x + 40:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """Maps values to places, by their logarithms."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        self._low, high = math.log(min(values)), math.log(max(values))
        self._first, self._scale = first, (last - first) / ((high - self._low) or 1.0)

    def at(self, value: float) -> float:
        return self._first + (math.log(value) - self._low) * self._scale
