"""When a sequence ends, token by token, and the text that its tokens make.

Accepted blocks are taken apart here: nothing after the token that ends a sequence is kept or
streamed. Knows nothing of models or proposals.
"""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from target_service.request.plan import Plan

# Tokens before the new ones that are decoded with them, so that spaces and characters that span
# tokens come out as they do in the whole text.
_CONTEXT = 6
# After this many tokens an incomplete character is shown as it is.
_PATIENCE = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """Tokens that were kept, their text, and why the sequence ended with them ("" if it goes on)."""

    ids: tuple[int, ...]
    text: str
    reason: str
    offsets: tuple[int, ...] = ()  # where in the text each token's own begins


class Stopping:
    """The end of one sequence."""

    def __init__(self, plan: Plan, tokenizer: Any) -> None:
        self._eos = frozenset(plan.sampling.eos_token_id)
        self._room = plan.max_length - len(plan.tokens)
        self._strings = tuple(plan.config.stop_strings.values)
        self._deadline = (
            time.monotonic() + plan.config.max_time if plan.config.HasField("max_time") else None
        )
        self._text = _Text(tokenizer, plan.tokens)
        keep = max((len(s) for s in self._strings), default=1) - 1
        self._tail_length = keep
        # As in transformers, a stop string may begin in the prompt.
        self._tail = self._text.context()[-keep:] if keep else ""
        self.reason = ""

    @property
    def tokens_left(self) -> int:
        """Tokens that may still come."""
        return self._room

    @property
    def eos_token_id(self) -> frozenset[int]:
        """Tokens that end the sequence."""
        return self._eos

    @property
    def reads_text(self) -> bool:
        """Whether it ends by what the tokens say, too."""
        return bool(self._strings)

    def fork(self) -> "Stopping":
        """The same for a sequence that goes its own way from here on."""
        fork = copy(self)
        fork._text = self._text.fork()
        return fork

    def out_of_time(self) -> bool:
        """Ends the sequence if its time is over."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = "max_time"
        return bool(self.reason)

    def take(self, ids: Sequence[int]) -> Taken:
        """Takes new tokens up to the one that ends the sequence, that one included."""
        text = ""
        offsets: list[int] = []
        for n, token in enumerate(ids, 1):
            self._room -= 1
            piece = self._text.add(token)
            if self._completes_stop_string(piece):
                self.reason = "stop_string"
            if self._room <= 0:
                self.reason = self.reason or "length"
            if token in self._eos:
                self.reason = "eos_token"
            offsets.append(len(text))
            text += piece
            if self.reason:
                return Taken(tuple(ids[:n]), text + self._text.rest(), self.reason, tuple(offsets))
        return Taken(tuple(ids), text, "", tuple(offsets))

    def flush(self) -> str:
        """Text of the last tokens, if the sequence ended between tokens."""
        return self._text.rest()

    def _completes_stop_string(self, piece: str) -> bool:
        if not self._strings or not piece:
            return False
        window = self._tail + piece
        self._tail = window[-self._tail_length :] if self._tail_length else ""
        return any(
            window.find(s, max(0, len(window) - len(piece) - len(s) + 1)) >= 0
            for s in self._strings
        )


class _Text:
    """Text of a growing sequence, piece by piece."""

    def __init__(self, tokenizer: Any, tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(tokens[-_CONTEXT:])
        self._begin, self._shown = 0, len(self._ids)

    def fork(self) -> "_Text":
        """A text that goes on by itself."""
        fork = copy(self)
        fork._ids = list(self._ids)
        return fork

    def context(self) -> str:
        """Text of the tokens before the first new one."""
        return self._decode(self._ids)

    def add(self, token: int) -> str:
        """The text that a token adds; empty while a character is incomplete."""
        self._ids.append(token)
        return self._advance(patient=len(self._ids) - self._shown < _PATIENCE)

    def rest(self) -> str:
        """What was held back."""
        return self._advance(patient=False)

    def _advance(self, patient: bool) -> str:
        before = self._decode(self._ids[self._begin : self._shown])
        whole = self._decode(self._ids[self._begin :])
        if len(whole) <= len(before) and patient:
            return ""
        if whole.endswith("\ufffd") and patient:
            return ""
        self._begin, self._shown = self._shown, len(self._ids)
        return whole[len(before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
