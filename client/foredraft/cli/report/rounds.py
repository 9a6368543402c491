"""What became of each round's proposal: kept, or wasted.

This module knows nothing of pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft import Chunk, Client, Round, UnsupportedError
from foredraft.cli.pieces import tokens_of
from foredraft.cli.screen import Piece


@dataclass(frozen=True, slots=True)
class ToldRound:
    """One round, and the tokens that it added."""

    number: int
    round: Round
    tokens: tuple[Piece, ...]

    @property
    def accepted(self) -> int:
        """The number of tokens that were proposed, alternatives among them."""
        return sum(origin != "target" for _, origin in self.tokens)

    @property
    def wasted_ids(self) -> tuple[int, ...]:
        """The proposed tokens that are not in the text."""
        in_text = sum(origin not in ("target", "alternative") for _, origin in self.tokens)
        return self.round.proposed_ids[in_text:]


def rounds_of(chunks: Sequence[Chunk]) -> list[ToldRound]:
    """Returns the rounds that the chunks of one sequence tell."""
    rounds: list[ToldRound] = []
    for chunk in chunks:
        tokens = tuple(tokens_of(chunk))
        if chunk.round is not None:
            rounds.append(ToldRound(len(rounds) + 1, chunk.round, tokens))
        elif rounds:  # score rows divide a round into several chunks
            last = rounds[-1]
            rounds[-1] = ToldRound(last.number, last.round, last.tokens + tokens)
    return rounds


def texts_of_ids(client: Client, rounds: Sequence[ToldRound]) -> dict[int, str]:
    """Returns the text of each wasted token, as far as the service tells it."""
    ids = sorted({token for one in rounds for token in one.wasted_ids})
    if not ids:
        return {}
    try:
        texts = client.decode([[token] for token in ids])
    except UnsupportedError:  # a service of an earlier version
        return {}
    return dict(zip(ids, texts, strict=True))
