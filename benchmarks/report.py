"""Reports as Markdown, JSON and charts, written into this folder.

This module knows nothing of how the figures came about.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import chart
from benchmarks.budget import Budget
from benchmarks.summary import Line, Spread

_FOLDER = Path(__file__).resolve().parent
_BEGIN, _END = "<!-- {}: written by the benchmark -->", "<!-- end of {} -->"
_HEAD = (
    "",
    "cores",
    "options",
    "tokens/s (quartiles)",
    "ratio to plain (95 %)",
    "with prompt",
    "first token, ms",
    "mean acceptance length",
    "share of floor",
)


@dataclass(frozen=True, slots=True)
class Table:
    """The lines of one temperature, and how chosen lanes compare."""

    title: str
    notes: tuple[str, ...]
    lines: tuple[Line, ...]
    duels: tuple[tuple[str, Spread], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a run of the benchmark found."""

    machine: dict[str, str]
    setting: tuple[str, ...]
    tables: tuple[Table, ...]
    budgets: tuple[Budget, ...]
    bare_ms: dict[str, dict[str, tuple[float, float]]]
    """The fastest and the median forward pass by width, for each model."""
    raw: dict[str, Any]
    """The single runs and the tuning, for the JSON alone."""

    def markdown(self) -> str:
        """Returns the whole report as Markdown."""
        parts = [grid(("", ""), [(name, value) for name, value in self.machine.items()])]
        parts += ["\n".join(f"- {line}" for line in self.setting)]
        parts += [_table(table) for table in self.tables]
        parts += ["### A round of the model draft\n", *map(_budget, self.budgets)]
        rows = [
            (m, w, f"{ms[0]:.2f}", f"{ms[1]:.2f}")
            for m, by in self.bare_ms.items()
            for w, ms in by.items()
        ]
        parts += [
            "### Bare forward passes\n",
            grid(("model", "width", "fastest, ms", "median, ms"), rows),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def write(self) -> None:
        """Writes README.md between its marks, results/one_stream.json and its charts."""
        Section("one_stream", self.markdown(), asdict(self)).write()


@dataclass(frozen=True, slots=True)
class Section:
    """The results of one benchmark."""

    name: str
    markdown: str
    raw: Any

    def write(self) -> None:
        """Writes README.md between its marks, a JSON file of its name, and its charts."""
        readme = _FOLDER / "README.md"
        begin, end = _BEGIN.format(self.name), _END.format(self.name)
        before, _, rest = readme.read_text().partition(begin)
        _, _, after = rest.partition(end)
        readme.write_text(f"{before}{begin}\n\n{self.markdown}\n{end}{after}")
        results = _FOLDER / "results" / f"{self.name}.json"
        results.parent.mkdir(exist_ok=True)
        text = json.dumps(self.raw, indent=1, ensure_ascii=False, default=asdict)
        results.write_text(text + "\n")
        chart.write(self.name, json.loads(text))


def _table(table: Table) -> str:
    rows = [
        (
            line.name,
            line.cores,
            line.assist,
            f"{line.tokens_per_s.median:.1f} ({line.tokens_per_s.low:.1f} to "
            f"{line.tokens_per_s.high:.1f})",
            _spread(line.ratio),
            f"{line.whole_ratio:.2f}",
            f"{line.first_ms:.0f}",
            f"{line.acceptance_length:.2f}",
            f"{line.floor_share:.0%}",
        )
        for line in table.lines
    ]
    duels = [f"- {name}: {_spread(spread)}" for name, spread in table.duels]
    notes = [f"- {note}" for note in table.notes]
    return "\n\n".join([f"### {table.title}", grid(_HEAD, rows), "\n".join([*duels, *notes])])


def _budget(budget: Budget) -> str:
    bare_ms = budget.bare_target_ms + budget.bare_draft_ms
    spent = f"{budget.round_ms:.2f} ms a round ({budget.rounds} rounds)"
    law = f"temperature {budget.temperature:g}" if budget.temperature else "greedy"
    if not budget.k:
        title = (
            f"Plain, {law}: {spent}; a bare forward pass takes {bare_ms:.2f} ms: "
            f"{budget.above_bare:+.1%}"
        )
    else:
        bare = (
            f"{budget.bare_target_ms:.2f} + {budget.k} · "
            f"{budget.bare_draft_ms / budget.k:.2f} = {bare_ms:.2f} ms"
        )
        title = (
            f"k = {budget.k}, no early stop, {law}: {spent}; bare forward passes take "
            f"{bare}: {budget.above_bare:+.1%}"
        )
    rows = [(name, f"{ms:.2f}") for name, ms in budget.parts_ms.items()]
    rows += [(f"· {name}", f"{ms:.2f}") for name, ms in budget.draft_parts_ms.items()]
    rows.append(("all of the call, by its rounds", f"{sum(budget.parts_ms.values()):.2f}"))
    return f"{title}\n\n{grid(('spent on', 'ms a round'), rows)}"


def _spread(spread: Spread) -> str:
    return f"**{spread.median:.2f}** ({spread.low:.2f} to {spread.high:.2f})"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
