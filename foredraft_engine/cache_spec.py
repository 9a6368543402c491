"""How the cache of one sequence is quantized, as a value.

This module knows nothing of tensors, or of the libraries that quantize.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """How a row is quantized. The defaults are those of transformers' `QuantizedCache`."""

    backend: str = "quanto"
    nbits: int = 4
    axis_key: int = 0
    axis_value: int = 0
    q_group_size: int = 64
    """Numbers that share a scale. A group has as many positions."""
    residual_length: int = 128
    """The smallest number of newest positions, its own included, that a query reads unquantized."""

    def groups_seen(self, position: int) -> int:
        """Returns how many groups, counted from position 0, a query reads quantized.

        The result depends on the query's position alone.
        """
        return max(0, position + 1 - self.residual_length) // self.q_group_size

    def resumes(self, held: int, at: int) -> bool:
        """Returns whether a row that holds `held` positions can roll back to position `at`.

        A row can roll back to a position only if every key that this position reads unquantized
        is still stored unquantized.
        """
        return self.groups_seen(at) == self.groups_seen(held)
