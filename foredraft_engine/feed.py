"""The tokens that a forward pass feeds to one row, as a chain or as a tree.

This module knows nothing of tensors, or of what a row holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft_engine.cache_spec import CacheSpec


@dataclass(frozen=True, slots=True)
class Tree:
    """How the new tokens of one row branch: several continuations of one text in one forward pass.

    A place is an index into the row. Places before `trunk` belong to the shared text, where place
    and position are the same. From `trunk` on they differ, so that every token states its position
    and the places of the tokens that it follows.
    """

    trunk: int
    positions: Sequence[int]
    """The position of each new token in its own text."""
    seen: Sequence[Sequence[int]]
    """The places of the text of each new token from position `trunk` on, in order."""

    @staticmethod
    def with_alternatives(start: int, count: int, depths: Sequence[int]) -> "Tree | None":
        """Returns the tree of a chain of tokens and of alternatives to some of them.

        Args:
            start: the place of the first token of the chain.
            count: the number of tokens in the chain.
            depths: for each alternative, the number of tokens of the chain that it follows.

        Returns:
            The tree, with the alternatives after the chain; None if there are no alternatives.
        """
        if not depths:
            return None
        lengths = [*range(count), *depths]
        return Tree(start, [start + n for n in lengths], [range(start, start + n) for n in lengths])


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens for one row, written from place `start` on.

    A token's place is its position, unless a tree says otherwise.
    """

    row: int
    start: int
    ids: Sequence[int]
    tree: Tree | None = None
    cache: CacheSpec | None = None
    """How the row is quantized; None if it is not."""
