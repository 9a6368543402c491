"""What is told of a round beside its tokens: where each came from, what was proposed, and when.

This module knows nothing of streams.
"""

import time
from collections.abc import Sequence

from foredraft.v1 import target_pb2
from foredraft_engine.proposal import Proposal, Verdict
from target_service.drafting.round_proposal import RoundProposal

TARGET = target_pb2.TOKEN_ORIGIN_TARGET
_DRAFTERS = {
    "none": target_pb2.TOKEN_ORIGIN_UNSPECIFIED,
    "model": target_pb2.TOKEN_ORIGIN_DRAFT_MODEL,
    "ngram": target_pb2.TOKEN_ORIGIN_NGRAM,
    "grammar": target_pb2.TOKEN_ORIGIN_GRAMMAR,
}


def token_origins(proposal: Proposal, verdict: Verdict) -> Sequence[target_pb2.TokenOrigin]:
    """Returns the origin of each token of a verdict: first those that were accepted."""
    if not verdict.accepted:
        return (TARGET,)
    origins = [_DRAFTERS[proposal.made_by]] * verdict.accepted
    if verdict.used_alternative:
        origins[-1] = target_pb2.TOKEN_ORIGIN_ALTERNATIVE
    return (*origins, TARGET)


def round_report(drafted: RoundProposal, call_began: float) -> target_pb2.Round:
    """Returns what is told of a round whose verdict is there now.

    Args:
        drafted: the proposal that was verified.
        call_began: when the call began, on the clock of `time.perf_counter`.
    """
    proposal, times = drafted.proposal, drafted.times
    return target_pb2.Round(
        proposed_ids=proposal.ids,
        proposed_by=_DRAFTERS[proposal.made_by],
        alternative_ids=[token for _, token in proposal.alternatives],
        alternative_positions=[at for at, _ in proposal.alternatives],
        began_s=drafted.requested_at - call_began,
        waited_s=drafted.waited_s,
        ended_s=time.perf_counter() - call_began,
        drafting_began_s=times.began - call_began if times else None,
        drafting_ended_s=times.ended - call_began if times else None,
        drafted_ahead=drafted.drafted == "ahead",
        fallback=drafted.fallback,
    )
