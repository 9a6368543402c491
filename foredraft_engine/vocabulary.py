"""The vocabulary of a model: which id stands for which token.

This module knows nothing of weights or of texts.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The identity of a vocabulary. Draft and target have to agree on the fingerprint."""

    fingerprint: bytes
    """A SHA-256 hash of the map from ids to tokens."""
    size: int
    """The number of ids that stand for a token. A model's logits may be wider, by padding. Both
    sides mask it, so that models padded to different widths work together.
    """

    @staticmethod
    def of(tokenizer: Any) -> "Vocabulary":
        """Returns the vocabulary of a transformers tokenizer."""
        tokens: dict[str, int] = tokenizer.get_vocab()
        special = {name: getattr(tokenizer, name, None) for name in _SPECIAL}
        ordered = sorted((i, token) for token, i in tokens.items())
        digest = hashlib.sha256(json.dumps([ordered, special]).encode()).digest()
        return Vocabulary(digest, ordered[-1][0] + 1)
