"""Which part of a text came from where.

This module knows nothing of how it is shown.
"""

from itertools import groupby

from foredraft import Chunk
from foredraft.cli.screen import Piece


def tokens_of(chunk: Chunk) -> list[Piece]:
    """Returns the text of each token of a chunk.

    Text that was held back from an earlier token goes with the first one.
    """
    if not chunk.token_ids or len(chunk.text_offsets) != len(chunk.token_ids):
        return [(chunk.text, "unknown")] if chunk.text else []
    bounds = [0, *chunk.text_offsets[1:], len(chunk.text)]
    return [(chunk.text[bounds[i] : bounds[i + 1]], one) for i, one in enumerate(chunk.origins)]


def pieces_of(chunk: Chunk) -> list[Piece]:
    """Returns the text of a chunk, cut where the origin of its tokens changes."""
    groups = groupby(tokens_of(chunk), key=lambda token: token[1])
    return [("".join(text for text, _ in tokens), origin) for origin, tokens in groups]
