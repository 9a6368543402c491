"""The log-probabilities of a prompt's own tokens, told while the prompt is fed.

This module knows nothing of strategies.
"""

from collections.abc import AsyncGenerator, Sequence

from foredraft_engine.logprobs import logprobs_of
from foredraft_engine.proposal import Logprobs
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.jobs import Reduce
from foredraft_engine.scheduling.row_pool import Row

# Logits of the whole vocabulary take much more memory than the tokens that are fed.
_SCORED_AT_ONCE = 64


async def prompt_logprobs(
    engine: Engine, row: Row, prompt: Sequence[int], top: int
) -> AsyncGenerator[tuple[Logprobs, ...], None]:
    """Feeds a prompt, all but its last token, and yields log-probabilities piece by piece.

    Args:
        row: an empty row: tokens that a row holds already have no logits any more.
        top: how many of the most likely tokens are told at each position.

    Yields:
        Those of the next tokens of the prompt, from the second on; the first has none.
    """
    while (rest := len(prompt) - 1 - (start := len(row.cached))) > 0:
        end = start + min(rest, engine.chunk_tokens, _SCORED_AT_ONCE)
        tell = _telling(prompt[start + 1 : end + 1], top)
        yield await engine.score(row, prompt[start:end], end - start, tell)


def _telling(ids: Sequence[int], top: int) -> Reduce:
    """Returns what makes log-probabilities of the logits at each of some tokens."""
    return lambda logits, hidden: logprobs_of(logits, ids, top)
