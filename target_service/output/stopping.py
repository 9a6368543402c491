"""The stop conditions of one sequence, and the text that its tokens make.

Tokens are taken one by one: nothing after the token that ends a sequence is kept or streamed. This
module knows nothing of models or proposals.
"""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from target_service.output.stop_strings import StopStrings
from target_service.output.text import text_after
from target_service.output.token_forms import TokenForms
from target_service.request.plan import Plan


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

    def __init__(self, plan: Plan, forms: TokenForms, began: float | None = None) -> None:
        """
        Args:
            began: when the call began, on the clock of `time.monotonic`; None is now.
        """
        self.eos_token_id = frozenset(plan.sampling.eos_token_id)
        """The tokens that end the sequence."""
        self.tokens_left = plan.max_length - len(plan.tokens)
        """The number of tokens that may still come."""
        self.reason = ""
        """The finish reason; empty while the sequence goes on."""
        self.stop_string = ""
        """The stop string that ended the sequence; empty if none did."""
        limited = plan.config.HasField("max_time")
        began = time.monotonic() if began is None else began
        self._deadline = began + plan.config.max_time if limited else None
        prompt = plan.sampling.prompt_length
        self._text = text_after(forms, plan.tokens[:prompt], plan.tokens[prompt:])
        self._stop_strings = StopStrings(plan.config.stop_strings.values, forms, plan.tokens)

    @property
    def reads_text(self) -> bool:
        """Whether the sequence may end by its text, which is the case with stop strings."""
        return bool(self._stop_strings)

    def fork(self) -> "Stopping":
        """Returns a copy for a sequence that branches off here."""
        fork = copy(self)
        fork._text, fork._stop_strings = self._text.fork(), copy(self._stop_strings)
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
            piece, earlier = self._text.add(token)
            if found := self._stop_strings.complete(token):
                self.reason, self.stop_string = "stop_string", found
            if self.tokens_left <= 0:
                self.reason = self.reason or "length"
            if token in self.eos_token_id:
                self.reason = "eos_token"
            offsets.append(len(text) + earlier)
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
