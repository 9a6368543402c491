"""Rates of foredraft and of others, from runs that were interleaved, as tables.

This module knows nothing of how the runs came about.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import grid

_HEAD = (
    "streams",
    "",
    "tokens/s (least to most)",
    "foredraft : it",
    "first token, ms",
    "ms a token",
    "equal texts",
)


@dataclass(slots=True)
class Score:
    """The runs of one engine, one for each repetition that it took part in."""

    name: str
    answers: list[dict[str, Any]] = field(default_factory=list)

    def rates(self, tokens: int) -> list[float]:
        """Returns tokens/s, from the moment in which all prompts were sent to the last token."""
        return [tokens / answer["whole_s"] for answer in self.answers]

    @property
    def first_s(self) -> float | None:
        """The median time to a stream's first token."""
        times_s = [first for answer in self.answers for first in answer["firsts_s"]]
        return statistics.median(times_s) if times_s else None

    @property
    def token_s(self) -> float | None:
        """The median time of a token of each stream, while all of them stream."""
        times_s = [answer["token_s"] for answer in self.answers if answer["token_s"]]
        return statistics.median(times_s) if times_s else None


@dataclass(frozen=True, slots=True)
class Bare:
    """Times of the forward passes alone, and of reading the weights once, in seconds."""

    passes_s: tuple[float, ...]
    reads_s: tuple[float, ...]

    def lines(self, streams: int, ours: Score) -> list[str]:
        """Returns how a round and a pass compare with what they cannot avoid."""
        pass_s, read_s = statistics.median(self.passes_s), statistics.median(self.reads_s)
        begin = f"{streams} stream{'s' if streams > 1 else ''}"
        lines = []
        if ours.token_s:
            lines.append(
                f"{begin}: a round takes {ours.token_s * 1e3:.1f} ms, the bare pass "
                f"alone {pass_s * 1e3:.1f} ms: **{ours.token_s / pass_s:.2f}**"
            )
        lines.append(
            f"{begin}: the bare pass takes {pass_s * 1e3:.1f} ms, reading the weights "
            f"once {read_s * 1e3:.1f} ms: **{read_s / pass_s:.2f}** of the pass"
        )
        return lines


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured with one data type and one kind of text."""

    title: str
    new_tokens: int
    scores: dict[int, list[Score]]
    """The peers by the number of streams; foredraft is the first one."""
    bare: dict[int, Bare] = field(default_factory=dict)

    def markdown(self) -> str:
        """Returns the table and its lines about bare passes."""
        rows = [row for n, scores in self.scores.items() for row in self._rows(n, scores)]
        lines = [line for n, bare in self.bare.items() for line in bare.lines(n, self.scores[n][0])]
        parts = [f"### {self.title}", grid(_HEAD, rows)]
        return "\n\n".join([*parts, "\n".join(f"- {line}" for line in lines)]).strip()

    def _rows(self, streams: int, scores: Sequence[Score]) -> list[tuple[str, ...]]:
        ours, tokens = scores[0], streams * self.new_tokens
        rows: list[tuple[str, ...]] = []
        for score in scores:
            rates = score.rates(tokens)
            pairs = zip(ours.rates(tokens), rates, strict=False)  # some take part less often
            ratios = [our / their for our, their in pairs]
            rows.append(
                (
                    str(streams),
                    score.name,
                    f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
                    "" if score is ours else _spread(ratios),
                    f"{score.first_s * 1e3:.0f}" if score.first_s else "",
                    f"{score.token_s * 1e3:.1f}" if score.token_s else "",
                    "" if score is ours else _equal(ours, score),
                )
            )
        return rows


def _spread(ratios: Sequence[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"


def _equal(ours: Score, theirs: Score) -> str:
    pairs = list(zip(ours.answers[0]["texts"], theirs.answers[0]["texts"], strict=True))
    return f"{sum(one == other for one, other in pairs)} of {len(pairs)}"
