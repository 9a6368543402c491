"""The vocabulary of a model: which id stands for which token.

This module knows nothing of weights or of texts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    tokens: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """The token of each id, empty where there is none; nothing if only the fingerprint is known."""
    special_ids: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    """The ids with a meaning, such as `eos_token_id`, as far as there are any."""

    @staticmethod
    def of(tokenizer: Any) -> "Vocabulary":
        """Returns the vocabulary of a transformers tokenizer."""
        by_token: dict[str, int] = tokenizer.get_vocab()
        special = {name: getattr(tokenizer, name, None) for name in _SPECIAL}
        ordered = sorted((i, token) for token, i in by_token.items())
        digest = hashlib.sha256(json.dumps([ordered, special]).encode()).digest()
        tokens = [""] * (ordered[-1][0] + 1)
        for i, token in ordered:
            tokens[i] = token
        known = {name: int(i) for name, i in special.items() if i is not None}
        return Vocabulary(digest, len(tokens), tuple(tokens), known)

    def first_difference(self, tokens: Sequence[str], special_ids: Mapping[str, int]) -> str:
        """Returns where another vocabulary differs from this one, as a sentence's end.

        Args:
            tokens: the tokens of the other, by their ids.
            special_ids: its ids with a meaning.
        """
        for i, (own, other) in enumerate(zip(self.tokens, tokens, strict=False)):
            if own != other:
                return f"id {i} is {other!r} there and {own!r} here"
        known = min(len(tokens), len(self.tokens))
        if len(tokens) > known:
            return f"id {known}, which is {tokens[known]!r}, is only there"
        if len(self.tokens) > known:
            return f"id {known}, which is {self.tokens[known]!r}, is only here"
        for name in _SPECIAL:
            own_id, other_id = self.special_ids.get(name), special_ids.get(name)
            if own_id != other_id:
                return f"its {name} is {other_id}, and the target's is {own_id}"
        return "the tokens are equal now, so it was replaced meanwhile"
