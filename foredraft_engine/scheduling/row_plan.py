"""Plans how many rows of how many tokens fit the memory that is free on the device.

This module knows nothing of models or devices.
"""

from dataclasses import dataclass

from foredraft_engine.errors import ModelError

# Rows are as many as may be while they are so long; further ones are left out before rows become
# shorter, but for the fewest.
_USUAL_LENGTH, _FEWEST_ROWS = 4096, 4
_SHORTEST = 64


@dataclass(frozen=True, slots=True)
class RowLimits:
    """What rows have to fit in."""

    budget_bytes: int
    """The memory that they may take."""
    bound: str
    """The flag that sets it."""
    token_bytes: int
    """The memory that one token of a row takes, at least 1."""
    longest: int
    """The number of tokens that the model itself takes."""
    most_rows: int
    """The number of rows from which more would be of no use."""
    spare: int
    """The places of every row beyond its length, for branches."""

    def tokens(self, rows: int) -> int:
        """Returns the number of tokens that fit each of some rows."""
        return self.budget_bytes // (self.token_bytes * rows) - self.spare

    def rows(self, tokens: int) -> int:
        """Returns the number of rows that fit if each has some tokens."""
        return self.budget_bytes // (self.token_bytes * (tokens + self.spare))


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The rows of a service."""

    rows: int
    length: int
    """The number of tokens in each."""


def plan_rows(limits: RowLimits, rows: int, length: int) -> RowPlan:
    """Returns the rows that fit.

    Args:
        rows, length: what the operator asks for; 0 for what fits.

    Raises:
        ModelError: it does not fit.
    """
    longest = min(length or limits.longest, limits.longest)
    usual, fewest = (longest, 1) if length else (min(longest, _USUAL_LENGTH), _FEWEST_ROWS)
    count = rows or max(fewest, min(limits.most_rows, limits.rows(usual)))
    least = longest if length else min(longest, _SHORTEST)
    if (fits := limits.tokens(count)) < least:
        fields = [name for name, asked in (("rows", rows), ("max_length", length)) if asked]
        raise ModelError(f"{' and '.join(fields) or 'device'}: {_refusal(limits, count, least)}")
    return RowPlan(count, min(longest, fits))


def _refusal(limits: RowLimits, rows: int, length: int) -> str:
    """Says that rows do not fit, and what would."""
    needed_bytes = rows * (length + limits.spare) * limits.token_bytes
    fewer, shorter = limits.rows(length), limits.tokens(rows)
    ways = [f"--rows {fewer}"] if fewer else []
    ways += [f"--max-length {shorter}"] if shorter > 0 else []
    return (
        f"{rows_text(rows, length)} take {size_text(needed_bytes)}, and "
        f"{size_text(limits.budget_bytes)} of the device's free memory are for rows; use "
        f"{' or '.join([*ways, f'a larger {limits.bound}'])}, or free memory"
    )


def rows_text(rows: int, tokens: int) -> str:
    """Returns rows of some tokens for people."""
    return f"{rows} row{'s' * (rows != 1)} of {tokens} tokens"


def size_text(size_bytes: int) -> str:
    """Returns a size for people."""
    units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "bytes")]
    shift, name = next((s, n) for s, n in units if size_bytes >> s or s == 0)
    number = size_bytes / (1 << shift)
    return f"{number:.0f} {name}" if number >= 100 else f"{number:.3g} {name}"
