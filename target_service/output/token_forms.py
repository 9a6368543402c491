"""What each token of a tokenizer stands for: bytes, a string, or nothing that is shown.

Stop strings are looked for in these forms, as transformers' `StopStringCriteria` does, special
tokens included. This module knows nothing of sequences.
"""

import json
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

# transformers puts this before a token, so that its form is that in the middle of a text.
_PREFIX = "abcdef"
_BYTES: dict[str, int] = {letter: byte for byte, letter in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_STEPS_BESIDE_BYTES = frozenset(["Replace", "ByteFallback", "Fuse", "Strip"])


class Joining(Enum):
    """How tokens are joined to a text."""

    BYTES = "the bytes of all tokens are read as UTF-8"
    """Tokens are joined as in byte-level BPE."""
    BYTE_RUNS = "strings, and runs of tokens that are a byte each"
    """Tokens are joined as in SentencePiece; a run that is no UTF-8 is U+FFFD for each byte."""
    OPAQUE = "as the tokenizer decodes them"


class TokenForms:
    """The tokens of one tokenizer. Several threads may share it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
        steps = list(_steps(_decoder(tokenizer)))
        types = {step["type"] for step in steps}
        self._byte_tokens = "ByteFallback" in types
        self._byte_letters = "ByteLevel" in types and not self._byte_tokens
        self.joining = _joining(tokenizer, steps)
        self._special = _special_ids(tokenizer)
        self._forms: dict[int, bytes | None] = {}
        self._hidden: dict[int, bool] = {}

    def form(self, token_id: int) -> bytes | None:
        """Returns what a token stands for in the middle of a text; None for an id of no token."""
        if token_id not in self._forms:
            token = self._tokens.get(token_id)
            self._forms[token_id] = None if token is None else self._form(token)
        return self._forms[token_id]

    def is_hidden(self, token_id: int) -> bool:
        """Whether a text is shown without this token, as it is without special ones."""
        if token_id in self._special and token_id not in self._hidden:
            self._hidden[token_id] = not self.decode([token_id])
        return self._hidden.get(token_id, token_id not in self._tokens)

    def is_byte(self, token_id: int) -> bool:
        """Whether a token among strings is a byte."""
        return self._byte_tokens and bool(_BYTE_TOKEN.fullmatch(self._tokens.get(token_id, "")))

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of tokens that are decoded at once."""
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _form(self, token: str) -> bytes:
        if self._byte_letters and all(letter in _BYTES for letter in token):
            return bytes(_BYTES[letter] for letter in token)
        if self._byte_tokens and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(byte[1])
        text: str = self._tokenizer.convert_tokens_to_string([*self._prefix, token])
        _, found, form = text.partition(_PREFIX)
        return (form if found else token).encode()

    @cached_property
    def _prefix(self) -> list[str]:
        ids = self._tokenizer(_PREFIX, add_special_tokens=False)["input_ids"]
        return [self._tokens[token_id] for token_id in ids if token_id in self._tokens]


def _decoder(tokenizer: Any) -> Any:
    """Returns the decoder's state; empty for a tokenizer that is not of `tokenizers`."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return {} if decoder is None else json.loads(decoder.__getstate__())


def _steps(decoder: Any) -> Iterator[dict[str, Any]]:
    if decoder.get("type") == "Sequence":
        for step in decoder["decoders"]:
            yield from _steps(step)
    elif decoder:
        yield decoder


def _joining(tokenizer: Any, steps: Sequence[dict[str, Any]]) -> Joining:
    """Returns the way of joining, as far as the steps of the decoder make it certain."""
    if getattr(type(tokenizer), "_decode", None) is not PreTrainedTokenizerFast._decode:
        return Joining.OPAQUE  # its own code may do anything
    types = [step["type"] for step in steps]
    if types == ["ByteLevel"]:
        return Joining.BYTES
    # These steps treat each string by itself, as long as the end of the text is not stripped.
    strips_end = any(step.get("stop") for step in steps)
    if "ByteFallback" in types and _STEPS_BESIDE_BYTES.issuperset(types) and not strips_end:
        return Joining.BYTE_RUNS
    return Joining.OPAQUE


def _special_ids(tokenizer: Any) -> frozenset[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named = getattr(tokenizer, "all_special_ids", ())
    return frozenset(named).union(token_id for token_id, token in added.items() if token.special)
