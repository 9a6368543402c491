"""Scores that no token can be chosen by, and the field of the request that made them so.

Scores are such if one of them is NaN or +inf, or if all of them are -inf: p is NaN then.
transformers raises an error where it samples from such scores; here greedy decoding refuses them
too, where `argmax` would take NaN for the largest number.

This module knows nothing of batches that steps make: it judges rows one by one.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

from torch import Tensor

from foredraft_engine.errors import BrokenLogitsError, InvalidFieldError
from foredraft_engine.logits.grammar import Grammar
from foredraft_engine.logits.processing import Scored, process
from foredraft_engine.logits.processors import Processors
from foredraft_engine.sampling import Sampling

NO_TOKEN = -1
"""Stands in place of an id where the scores allow none."""

_OFF = Sampling()
# These say where a sequence stands, and how its tokens are drawn; they change no score.
_NEUTRAL = frozenset(
    ["rule", "seed", "sequence_index", "prompt_length", "max_length", "eos_token_id"]
)


def whole_scores(batch: Sequence[Scored], logits: Tensor, together: bool = False) -> Tensor:
    """Applies the processors of one sequence, as `process` does, and refuses broken scores.

    Args:
        batch: texts of one sequence.
        logits: float32 [n, vocab].
        together: whether tokens are chosen among all rows, as for beams; a row may then allow none.

    Raises:
        InvalidFieldError: a field of the request makes scores that no token can be chosen by.
        BrokenLogitsError: the model itself does.
    """
    try:
        scores = process(batch, logits)
    except (ArithmeticError, ValueError, RuntimeError) as error:
        raise broken(batch, logits, error) from error
    best = scores.amax(dim=-1)  # NaN where the row has one
    if not (best.amax(dim=0) if together else best).isfinite().all():
        raise broken(batch, logits)
    return scores


def broken(
    batch: Sequence[Scored], logits: Tensor, error: Exception | None = None
) -> InvalidFieldError | BrokenLogitsError | Exception:
    """Returns the error that tells why the scores of one sequence are broken.

    The field to blame is the one without which the scores are whole, so that a new field is blamed
    without being named here.

    Args:
        batch: texts of one sequence.
        logits: float32 [n, vocab], of which some row is broken after the processors.
        error: what the processors raised, if they did.
    """
    sampling, held = batch[0].processors.sampling, batch[0].processors.held
    grammar = held.grammar if held else None
    kind = "all infinite" if error is None else f"not computable ({error})"
    if error is None and not _is_whole(batch, logits, sampling, grammar):
        kind = "NaN or infinite"
    if not _is_whole(batch, logits, Sampling(rule=sampling.rule)):
        return BrokenLogitsError(
            "the model's own logits are NaN or infinite; remove_invalid_values=True replaces them"
        )
    asked = [
        f.name
        for f in fields(Sampling)
        if f.name not in _NEUTRAL and getattr(sampling, f.name) != getattr(_OFF, f.name)
    ]
    for name in asked:
        if _is_whole(batch, logits, replace(sampling, **{name: getattr(_OFF, name)}), grammar):
            return InvalidFieldError(name, f"makes scores that are {kind}; no token remains")
    if not asked:
        return error or BrokenLogitsError("the scores are NaN or infinite")
    return InvalidFieldError(
        asked[0], f"together make scores that are {kind}; no token remains", *asked[1:]
    )


def _is_whole(
    batch: Sequence[Scored], logits: Tensor, sampling: Sampling, grammar: Grammar | None = None
) -> bool:
    """Returns whether every row has a token to choose under other sampling parameters."""
    processors = Processors(sampling, logits.device, grammar if sampling.response_format else None)
    texts = [Scored(processors, one.tokens, one.count) for one in batch]
    try:
        return _all_whole(process(texts, logits))
    except (ArithmeticError, ValueError, RuntimeError):
        return False


def _all_whole(scores: Tensor) -> bool:
    """Returns whether a token can be chosen in every row; the largest of a row with NaN is NaN."""
    return bool(scores.amax(dim=-1).isfinite().all())
