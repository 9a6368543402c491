"""The language of a model:

which id means which token. Knows nothing of weights or of text to come.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Two models speak the same language when the fingerprints are equal.

    `size` counts the ids that mean a token. A model's logits may be wider, by padding that means
    nothing: both sides mask it, so that models padded to different widths work together.
    """

    fingerprint: bytes
    size: int

    @staticmethod
    def of(tokenizer: Any) -> "Vocabulary":
        """The language of a transformers tokenizer."""
        tokens: dict[str, int] = tokenizer.get_vocab()
        special = {name: getattr(tokenizer, name, None) for name in _SPECIAL}
        ordered = sorted((i, token) for token, i in tokens.items())
        digest = hashlib.sha256(json.dumps([ordered, special]).encode()).digest()
        return Vocabulary(digest, ordered[-1][0] + 1)
