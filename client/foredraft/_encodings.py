"""Token ids with an attention mask, as tokenizers of transformers return them.

This module knows nothing of prompts: it turns an encoding into plain token ids, without padding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foredraft._errors import InvalidRequestError

ENCODING = ("input_ids", "attention_mask", "token_type_ids")
"""What an encoding consists of; the ids come first."""


def is_encoding(value: object) -> bool:
    """Whether a value is an encoding and neither a prompt nor a message."""
    return isinstance(value, Mapping) and "input_ids" in value


def unpadded(encoding: Mapping[str, Any]) -> Any:
    """Returns the ids of an encoding: those of the one text or a list for each, without padding.

    Raises:
        InvalidRequestError: the encoding has something that would be lost, or a mask that is none.
    """
    for name, value in encoding.items():
        if value is None or name in ENCODING[:2]:
            continue
        # Kinds of tokens are for models of pairs of texts; a single text has kind 0 alone.
        if name not in ENCODING or not _is_zero(untensored(value)):
            reason = f"{name!r} of an encoding is not used; pass input_ids and attention_mask alone"
            raise InvalidRequestError(reason, field=name)
    ids, mask = (untensored(encoding.get(name)) for name in ENCODING[:2])
    first = ids[0] if _is_list(ids) and ids else ids
    if isinstance(first, str | bytes | Mapping | None):
        raise InvalidRequestError("input_ids: takes token ids", field="input_ids")
    if mask is None:
        return ids
    rows = [_kept(*pair) for pair in zip(_rows(ids), _rows(mask), strict=False)]
    if len(_rows(ids)) != len(_rows(mask)) or not rows:
        raise _refusal("has another shape than input_ids")
    return rows if _is_batch(ids) else rows[0]


def untensored(value: Any) -> Any:
    """Returns lists in place of tensors and arrays, also where a list holds them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple) and value and hasattr(value[0], "tolist"):
        return [untensored(v) for v in value]
    return value


def _kept(ids: Any, mask: Any) -> list[Any]:
    """Returns the ids of one text, which stand together between its padding."""
    if not _is_list(ids) or not _is_list(mask) or len(ids) != len(mask):
        raise _refusal("has another shape than input_ids")
    if not set(mask) <= {0, 1}:
        raise _refusal("has values other than 0 and 1")
    first, count = (list(mask).index(1) if 1 in mask else 0), sum(mask)
    if not all(mask[first : first + count]):
        raise _refusal("hides ids in the middle of a text; padding stands before or after it")
    return list(ids[first : first + count])


def _refusal(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"attention_mask: {reason}", field="attention_mask")


def _is_zero(kinds: Any) -> bool:
    return _is_list(kinds) and all(_is_list(row) and not any(row) for row in _rows(kinds))


def _rows(value: Any) -> Sequence[Any]:
    return value if _is_batch(value) else [value]


def _is_batch(value: Any) -> bool:
    return _is_list(value) and bool(value) and _is_list(value[0])


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
