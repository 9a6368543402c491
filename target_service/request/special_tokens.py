"""The special tokens of a tokenizer: which ids are some, and how a text is kept from making one.

This module knows nothing of templates.
"""

from collections.abc import Sequence
from typing import Any

_PRIVATE = 0x100000  # the first of the characters that no language has


class SpecialTokens:
    """The special tokens of one tokenizer, but for the one of what it does not know."""

    def __init__(self, tokenizer: Any) -> None:
        spelled = {
            token_id: token.content
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if token.special and token_id != tokenizer.unk_token_id
        }
        self._ids = frozenset(spelled)
        marks = sorted({mark for form in spelled.values() for mark in _first_mark(form)})
        self._stand_ins = str.maketrans({m: chr(_PRIVATE + i) for i, m in enumerate(marks)})

    def among(self, ids: Sequence[int]) -> list[int]:
        """Returns those of the ids that are special tokens, in their order."""
        return [token_id for token_id in ids if token_id in self._ids]

    def hidden(self, value: Any) -> Any:
        """Returns JSON with others in place of the characters that a special token cannot do
        without, so that no piece of a text can become a part of one.
        """
        if isinstance(value, str):
            return value.translate(self._stand_ins)
        if isinstance(value, dict):
            return {self.hidden(name): self.hidden(item) for name, item in value.items()}
        return [self.hidden(item) for item in value] if isinstance(value, list) else value


def _first_mark(form: str) -> str:
    """Returns the first character that is no letter, digit, space or underscore; empty if all are.

    The others are in the names of roles and keys, which a template has to recognise.
    """
    return next((c for c in form if not (c.isalnum() or c.isspace() or c == "_")), "")
