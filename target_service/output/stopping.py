"""The stop conditions of one sequence, and the text that its tokens make.

Tokens are taken one by one: nothing after the token that ends a sequence is kept or streamed. This
module knows nothing of models or proposals.
"""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from target_service.request.plan import Plan

# Tokens before the new ones are decoded with them, so that spaces and characters that span tokens
# come out as they do in the whole text.
_CONTEXT_TOKENS = 6
# A character that is still incomplete after this many tokens is shown as U+FFFD.
_MAX_HELD_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """Tokens that were kept, up to the one that ends the sequence."""

    ids: tuple[int, ...]
    text: str
    reason: str
    """The finish reason; empty if the sequence goes on."""
    offsets: tuple[int, ...] = ()
    """Where the text of each token begins in `text`."""


class Stopping:
    """The stop conditions of one sequence, and whether one of them is met."""

    def __init__(self, plan: Plan, tokenizer: Any) -> None:
        self.eos_token_id = frozenset(plan.sampling.eos_token_id)
        """The tokens that end the sequence."""
        self.tokens_left = plan.max_length - len(plan.tokens)
        """The number of tokens that may still come."""
        self.reason = ""
        """The finish reason; empty while the sequence goes on."""
        self._strings = tuple(plan.config.stop_strings.values)
        self._deadline = (
            time.monotonic() + plan.config.max_time if plan.config.HasField("max_time") else None
        )
        self._text = _Text(tokenizer, plan.tokens)
        # A stop string may begin in the prompt, as in transformers.
        keep = max((len(s) for s in self._strings), default=1) - 1
        self._tail_length = keep
        self._tail = self._text.context()[-keep:] if keep else ""

    @property
    def reads_text(self) -> bool:
        """Whether the sequence may end by its text, which is the case with stop strings."""
        return bool(self._strings)

    def fork(self) -> "Stopping":
        """Returns a copy for a sequence that branches off here."""
        fork = copy(self)
        fork._text = self._text.fork()
        return fork

    def is_out_of_time(self) -> bool:
        """Ends the sequence if `max_time` is over, and returns whether the sequence has ended."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = "max_time"
        return bool(self.reason)

    def take(self, ids: Sequence[int]) -> Taken:
        """Takes new tokens up to and including the one that ends the sequence."""
        text = ""
        offsets: list[int] = []
        for n, token in enumerate(ids, 1):
            self.tokens_left -= 1
            piece = self._text.add(token)
            if self._completes_stop_string(piece):
                self.reason = "stop_string"
            if self.tokens_left <= 0:
                self.reason = self.reason or "length"
            if token in self.eos_token_id:
                self.reason = "eos_token"
            offsets.append(len(text))
            text += piece
            if self.reason:
                return Taken(tuple(ids[:n]), text + self._text.rest(), self.reason, tuple(offsets))
        return Taken(tuple(ids), text, "", tuple(offsets))

    def expire(self, taken: Taken) -> Taken:
        """Ends the sequence for lack of time after the tokens that were taken last."""
        self.reason = "max_time"
        return Taken(taken.ids, taken.text + self.flush(), self.reason, taken.offsets)

    def flush(self) -> str:
        """Returns the text that was held back, for a sequence that ends between tokens."""
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
    """The text of a growing sequence, piece by piece."""

    def __init__(self, tokenizer: Any, tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(tokens[-_CONTEXT_TOKENS:])
        self._begin, self._shown = 0, len(self._ids)

    def fork(self) -> "_Text":
        """Returns a copy for a sequence that branches off here."""
        fork = copy(self)
        fork._ids = list(self._ids)
        return fork

    def context(self) -> str:
        """Returns the text of the last tokens before the first new one."""
        return self._decode(self._ids)

    def add(self, token: int) -> str:
        """Returns the text that a token adds; empty while a character is incomplete."""
        self._ids.append(token)
        return self._advance(may_hold=len(self._ids) - self._shown < _MAX_HELD_TOKENS)

    def rest(self) -> str:
        """Returns the text that was held back."""
        return self._advance(may_hold=False)

    def _advance(self, may_hold: bool) -> str:
        before = self._decode(self._ids[self._begin : self._shown])
        whole = self._decode(self._ids[self._begin :])
        if len(whole) <= len(before) and may_hold:
            return ""
        if whole.endswith("\ufffd") and may_hold:
            return ""
        self._begin, self._shown = self._shown, len(self._ids)
        return whole[len(before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
