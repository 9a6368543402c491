"""The values in a chunk's message: scores, origins, and the round that begins with it.

This module knows nothing of sequences.
"""

import sys
from array import array

from foredraft._types import Origin, Round, ScoreRow
from foredraft.v1 import target_pb2

_ORIGINS: dict[int, Origin] = {
    target_pb2.TOKEN_ORIGIN_TARGET: "target",
    target_pb2.TOKEN_ORIGIN_DRAFT_MODEL: "draft_model",
    target_pb2.TOKEN_ORIGIN_NGRAM: "ngram",
    target_pb2.TOKEN_ORIGIN_ALTERNATIVE: "alternative",
    target_pb2.TOKEN_ORIGIN_GRAMMAR: "grammar",
}


def origins_from(message: target_pb2.Chunk) -> tuple[Origin, ...]:
    """Returns the origin of each token, also where an older service tells none."""
    told = message.origins or [target_pb2.TOKEN_ORIGIN_UNSPECIFIED] * len(message.token_ids)
    return tuple(_ORIGINS.get(origin, "unknown") for origin in told)


def round_from(chunk: target_pb2.Chunk) -> Round | None:
    """Returns the round that begins with a chunk; None if it is not told."""
    if not chunk.HasField("round"):
        return None
    message, drafting_s = chunk.round, None
    if message.HasField("drafting_began_s"):
        drafting_s = message.drafting_began_s, message.drafting_ended_s
    positions, ids = message.alternative_positions, message.alternative_ids
    return Round(
        proposed_ids=tuple(message.proposed_ids),
        proposed_by=_ORIGINS.get(message.proposed_by, "unknown") if message.proposed_ids else None,
        alternatives=tuple(zip(positions, ids, strict=True)),
        began_s=message.began_s,
        waited_s=message.waited_s,
        ended_s=message.ended_s,
        drafting_s=drafting_s,
        drafted_ahead=message.drafted_ahead,
        fallback=message.fallback,
    )


def score_row_from(message: target_pb2.ScoreRow) -> ScoreRow:
    """Returns a row of scores."""
    ids, values = array("I", message.ids), array("f", message.values)
    if sys.byteorder == "big":
        ids.byteswap()
        values.byteswap()
    return ScoreRow(ids if ids else None, values)
