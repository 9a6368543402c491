"""The stop strings of one sequence, and whether a token completes one of them.

The semantics are those of transformers' `StopStringCriteria`: a stop string may begin in the
prompt, and it is looked for in the forms of all tokens, special ones included. This module knows
nothing of the text that is shown.
"""

from collections.abc import Iterable, Sequence

from target_service.output.token_forms import TokenForms


class StopStrings:
    """Takes tokens one by one; a shallow copy goes on by itself."""

    def __init__(self, strings: Iterable[str], forms: TokenForms, tokens: Sequence[int]) -> None:
        """Looks for strings after tokens that are there already."""
        self._strings = tuple(string.encode() for string in strings)
        self._forms = forms
        self._tail_bytes = max((len(string) for string in self._strings), default=1) - 1
        self._tail = b""
        # Each token but a rare one has a byte or more.
        for token in tokens[-self._tail_bytes :] if self._tail_bytes else ():
            self.complete(token)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._strings)

    def complete(self, token: int) -> str:
        """Takes a token, and returns the stop string that ends in it; empty if none does."""
        if not self._strings:
            return ""
        form = self._forms.form(token)
        if form is None:  # the model has ids that are no token: no string goes across one
            self._tail = b""
            return ""
        text = self._tail + form
        self._tail = text[-self._tail_bytes :] if self._tail_bytes else b""
        # A string that ends before the new bytes was complete before.
        first_end = len(text) - len(form) + 1
        ended = (s for s in self._strings if text.find(s, max(0, first_end - len(s))) >= 0)
        return next(ended, b"").decode()
