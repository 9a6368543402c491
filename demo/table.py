"""The table of how fast each way of generating gave its answers, and whether they are equal."""

from collections.abc import Sequence
from dataclasses import dataclass

_NAME, _COLUMN = 38, 11


@dataclass(frozen=True, slots=True)
class Row:
    """What one way of generating gave for each question."""

    name: str
    token_ids: tuple[tuple[int, ...], ...]
    spent_s: tuple[float, ...]
    proposed: tuple[float, ...] = ()
    """The tokens proposed in a round of each answer, on average; empty if there are no rounds."""
    acceptance_lengths: tuple[float, ...] = ()
    """The mean acceptance length of each answer; empty if there are no rounds."""

    def rates(self) -> list[str]:
        """Returns the tokens/s of each answer."""
        pairs = zip(self.token_ids, self.spent_s, strict=True)
        return [f"{len(ids) / spent_s:.1f}" for ids, spent_s in pairs]


def table(names: Sequence[str], assisted: Row, plain: Row, rivals: Sequence[Row]) -> str:
    """Returns the table as text.

    Args:
        names: one for each question.
        assisted: what is shown.
        plain: the same service without assistance, whose texts have to be equal.
        rivals: other ways, whose texts are compared as well.
    """
    lines = [_line("tokens/s", names)]
    lines += [_line(row.name, row.rates()) for row in (*rivals, plain, assisted)]
    for name, figures in (
        ("tokens proposed in a round", assisted.proposed),
        ("mean acceptance length", assisted.acceptance_lengths),
    ):
        lines.append(_line(name, [f"{figure:.2f}" for figure in figures]))
    for row in (plain, *rivals):
        pairs = zip(row.token_ids, assisted.token_ids, strict=True)
        lines.append(_line(f"equal to {row.name}", ["yes" if a == b else "NO" for a, b in pairs]))
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:{_NAME}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)
