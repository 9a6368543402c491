"""The values that pass between drafting and verification: proposals, outcomes and verdicts.

This module knows nothing of how they are made or sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foredraft_engine.score_rows import ScoreRow


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Rows of q that list only some tokens, one row for each proposed token."""

    ids: NDArray[np.uint32]
    """The token ids of all rows, [entries]."""
    probabilities: NDArray[np.float32]
    """The probability of each id, [entries]."""
    counts: tuple[int, ...]
    """The number of entries in each row."""

    @staticmethod
    def join(rows: "list[SparseRows]") -> "SparseRows":
        """Joins rows, one after another."""
        return SparseRows(
            np.concatenate([r.ids for r in rows]),
            np.concatenate([r.probabilities for r in rows]),
            tuple(n for r in rows for n in r.counts),
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """The tokens that are to be verified, with the rows of q that they were drawn from."""

    ids: tuple[int, ...] = ()
    q: SparseRows | None = None
    """A row for each token; None if every token was certain, so that q is one-hot."""
    made_by: str = "none"
    """The kind of drafter: "model", "ngram", "grammar" or "none"."""
    alternatives: tuple[tuple[int, int], ...] = ()
    """Pairs (at, id): the token `id` is verified too, in place of ids[at]. The likeliest one comes
    first. Alternatives are possible only where acceptance is exact match.
    """

    def first(self, k: int, alternatives: int = 0) -> "Proposal":
        """Returns the first k tokens, with at most `alternatives` alternatives to them.

        The output keeps its law as long as k does not depend on the tokens.
        """
        if len(self.ids) <= k and len(self.alternatives) <= alternatives:
            return self
        kept = tuple((at, token) for at, token in self.alternatives if at < k)[:alternatives]
        if self.q is None or len(self.ids) <= k:
            return Proposal(self.ids[:k], self.q, self.made_by, kept)
        end = sum(self.q.counts[:k])
        q = SparseRows(self.q.ids[:end], self.q.probabilities[:end], self.q.counts[:k])
        return Proposal(self.ids[:k], q, self.made_by, kept)

    def allows(self, accepted: Sequence[int]) -> bool:
        """Returns whether a verification of this proposal could have accepted these tokens."""
        ids, end = tuple(accepted), len(accepted) - 1
        return self.ids[: len(ids)] == ids or (
            self.ids[:end] == ids[:end] and (end, ids[end]) in self.alternatives
        )


NOTHING = Proposal()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way in which a verification can end, and the proposal for it."""

    path: tuple[int, ...]
    """The accepted tokens, then the target's own; empty for a proposal on the committed tokens."""
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The log-probabilities at one position."""

    chosen: float
    """The log-probability of the chosen token."""
    top: tuple[tuple[int, float], ...]
    """The most likely tokens with their log-probabilities."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a verification."""

    ids: tuple[int, ...]
    """The accepted tokens, then one recovered or bonus token."""
    logprobs: tuple[Logprobs, ...] = ()
    """The log-probabilities at each token, if they were asked for."""
    used_alternative: bool = False
    """Whether the last accepted token is an alternative."""
    scores: tuple[ScoreRow, ...] = ()
    """The processed scores that each token was chosen by, if they were asked for."""
    logits: tuple[ScoreRow, ...] = ()
    """The model's own logits at each token, if they were asked for."""

    @property
    def accepted(self) -> int:
        """The number of accepted tokens."""
        return len(self.ids) - 1

    @property
    def next_id(self) -> int:
        """The recovered or bonus token."""
        return self.ids[-1]
