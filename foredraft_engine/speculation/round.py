"""One round of speculative decoding: a proposal, the tokens that it follows, and how it ended.

This module knows nothing of where proposals come from, or of the rule that decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.feed import Feed, Tree
from foredraft_engine.logits.processing import Scored
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Proposal


@dataclass(frozen=True, slots=True)
class Round:
    """A proposal that is verified on the committed tokens of one sequence."""

    tokens: Sequence[int]
    """The committed tokens, the prompt included."""
    proposal: Proposal
    processors: Processors

    @property
    def scored(self) -> int:
        """The rows of logits: one for each proposed token, one for the bonus token, one for each
        alternative.
        """
        return len(self.proposal.ids) + 1 + len(self.proposal.alternatives)

    @property
    def scored_texts(self) -> list[Scored]:
        """The texts behind these rows: that of the proposal, then that of each alternative."""
        tokens, proposal = self.tokens, self.proposal
        chain = Scored(self.processors, [*tokens, *proposal.ids], len(proposal.ids) + 1)
        alternatives = [
            Scored(self.processors, [*tokens, *proposal.ids[:at], token], 1)
            for at, token in proposal.alternatives
        ]
        return [chain, *alternatives]


@dataclass(frozen=True, slots=True)
class Decision:
    """How a round ended."""

    ids: tuple[int, ...]
    """The accepted tokens, then the target's own."""
    rows: Sequence[int]
    """The row of the round's logits that each of them was chosen by."""
    used_alternative: bool = False
    """Whether the last accepted token is an alternative."""


def round_feed(
    row: int,
    start: int,
    tokens: Sequence[int],
    proposal: Proposal,
    cache: CacheSpec | None = None,
) -> Feed:
    """Returns the feed that verifies a proposal.

    It holds the committed tokens that the row lacks, the proposed tokens, then the alternatives.

    Args:
        row: index of the row.
        start: tokens that the row holds.
        tokens: the committed tokens.
        cache: how the row is quantized, if it is.
    """
    new, alternatives = tokens[start:], proposal.alternatives
    chain = [*new, *proposal.ids]
    tree = Tree.with_alternatives(start, len(chain), [len(new) + at for at, _ in alternatives])
    return Feed(row, start, [*chain, *(token for _, token in alternatives)], tree, cache)
