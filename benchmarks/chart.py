"""Draws measured ratios as bar charts in SVG, from the results that benchmarks write.

    python -m benchmarks.chart     draws all charts anew: `make charts`

The colours are readable on light and on dark backgrounds. This module measures nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
_WIDTH, _LABELS, _ROW, _TOP = 860, 380, 26, 62
_NAMES = {"Greedy": "greedy", "Temperature 0.7": "sampled"}
_OURS, _THEIRS, _TEXT, _LINE = "#2f81c7", "#8b949e", "#6e7781", "#6e778155"


@dataclass(frozen=True, slots=True)
class Bar:
    """One measured ratio, with its 95 % interval if there is one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def end(self) -> float:
        """The largest number that the bar shows."""
        return self.value if self.high is None else max(self.value, self.high)


def bar_chart(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Returns an SVG with one horizontal bar for each ratio."""
    scale = (_WIDTH - _LABELS - 90) / max(bar.end for bar in bars)
    height = _TOP + _ROW * len(bars) + 12
    one = _LABELS + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="20" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="0" y="42">{escape(note)}</text>',
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{_TOP - 8}" y2="{height - 8}" '
        f'stroke="{_LINE}" stroke-dasharray="4 3"/>',
    ]
    for at, bar in enumerate(bars):
        parts += _bar(bar, _TOP + _ROW * at, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(bar: Bar, top: int, scale: float) -> list[str]:
    middle, colour = top + _ROW / 2, _OURS if bar.label.startswith("foredraft") else _THEIRS
    parts = [
        f'<text x="{_LABELS - 8}" y="{middle + 4:.1f}" '
        f'text-anchor="end">{escape(bar.label)}</text>',
        f'<rect x="{_LABELS}" y="{top + 5}" width="{bar.value * scale:.1f}" height="{_ROW - 10}" '
        f'fill="{colour}"/>',
    ]
    if bar.low is not None and bar.high is not None:
        low, high = _LABELS + bar.low * scale, _LABELS + bar.high * scale
        parts.append(
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} '
            f'{middle - 4}v8" stroke="{_TEXT}" fill="none"/>'
        )
    end = _LABELS + bar.end * scale + 6
    return [*parts, f'<text x="{end:.1f}" y="{middle + 4:.1f}">{bar.value:.2f}</text>']


def _one_stream(raw: Mapping[str, Any]) -> dict[str, str]:
    """Draws the ratios to transformers' plain decoding, for each temperature."""
    charts = {}
    for table in raw["tables"]:
        if table["title"] not in _NAMES:  # the table without texts that end in a loop
            continue
        bars = [
            Bar(line["name"], line["ratio"]["median"], line["ratio"]["low"], line["ratio"]["high"])
            for line in table["lines"]
        ]
        title = f"One stream, {table['title'].lower()}: tokens/s next to transformers' own"
        note = (
            f"Ratio to plain decoding, median and 95 % interval; commit {_commit(raw)}, CPU, fp32"
        )
        charts[f"one_stream_{_NAMES[table['title']]}.svg"] = bar_chart(title, note, bars)
    return charts


def _distance(raw: Mapping[str, Any]) -> dict[str, str]:
    """Draws what a network costs: rates relative to a draft that is waited for without one."""
    charts = {}
    for pair, name in (("emulated", "emulated pair, 60 and 6 ms a step"), ("real", "CPU pair")):
        rows = [row for row in raw[pair] if row["law"] == "greedy"]
        base = next(r for r in rows if r["way"] == "synchronous" and r["rtt_ms"] == 0)["rate"]
        bars = [
            Bar(f"foredraft, {row['way']}, {row['rtt_ms']:g} ms of round trip", row["rate"] / base)
            for row in rows
        ]
        title = f"A draft at a distance, greedy, {name}"
        note = "tokens/s relative to waiting for every proposal (synchronous) at 0 ms"
        charts[f"distance_{pair}.svg"] = bar_chart(title, note, bars)
    return charts


def _commit(raw: Mapping[str, Any]) -> str:
    return str(raw["machine"]["commit"])


_CHARTS = {"one_stream": _one_stream, "distance": _distance}


def charts(name: str, raw: Mapping[str, Any]) -> dict[str, str]:
    """Returns the charts of a benchmark's results, by file name; none for other benchmarks."""
    return _CHARTS[name](raw) if name in _CHARTS else {}


def committed() -> dict[Path, str]:
    """Returns all charts of the committed results, by path."""
    found: dict[Path, str] = {}
    for name in _CHARTS:
        raw = json.loads((FOLDER / "results" / f"{name}.json").read_text())
        found |= {FOLDER / "charts" / file: svg for file, svg in charts(name, raw).items()}
    return found


def write(name: str, raw: Mapping[str, Any]) -> None:
    """Writes the charts of a benchmark's results."""
    (FOLDER / "charts").mkdir(exist_ok=True)
    for file, svg in charts(name, raw).items():
        (FOLDER / "charts" / file).write_text(svg)


if __name__ == "__main__":
    for path, text in committed().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
