"""The text of a growing sequence, piece by piece.

All pieces, joined, are the text of all tokens decoded at once, without special ones. A piece is
held back only while tokens that may come can change it, and the work for a token does not depend on
the length of the text. This module knows nothing of why a sequence ends.
"""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy

from target_service.output.token_forms import Joining, TokenForms

# Decoded before new tokens, these make the new ones come out as they do in the whole text: a
# character has at most 4 bytes, and spaces depend on the token before.
_CONTEXT_TOKENS = 4
_MAX_WINDOW_TOKENS = 12
_UNKNOWN = "\ufffd"

Piece = tuple[str, int]
"""Text, and the number of its first characters that belong to tokens before the newest one."""


class Text(ABC):
    """The text that follows a prompt."""

    def __init__(self, forms: TokenForms) -> None:
        self._forms = forms
        self._in_prompt = ""
        """The text held back at the end of the prompt, which the caller has as it is."""

    @property
    @abstractmethod
    def held(self) -> str:
        """What is shown of the text that is held back if no token follows."""

    @abstractmethod
    def _add(self, token: int) -> Piece:
        """Returns the text that a token makes certain; the token is not hidden."""

    def begin(self, prompt: Sequence[int], generated: Sequence[int]) -> None:
        """Takes the last tokens of the prompt, and those that an earlier call has shown."""
        for token in prompt:
            self.add(token)
        self._in_prompt = self.held
        for token in generated:
            self.add(token)

    def add(self, token: int) -> Piece:
        """Returns the text that is certain after a token and was not before."""
        if self._forms.is_hidden(token):
            return "", 0
        text, earlier = self._add(token)
        if not text:
            return "", 0
        known = _shared(self._in_prompt, text)
        self._in_prompt = ""
        return text[known:], max(0, earlier - known)

    def rest(self) -> str:
        """Returns the text that is held back, for a sequence that ends here."""
        return self.held[_shared(self._in_prompt, self.held) :]

    def fork(self) -> "Text":
        """Returns a copy for a sequence that branches off here."""
        return copy(self)


def text_after(forms: TokenForms, prompt: Sequence[int], generated: Sequence[int] = ()) -> Text:
    """Returns the text of the tokens that follow a prompt and what an earlier call generated."""
    text = _KINDS[forms.joining](forms)
    tokens = (*prompt, *generated)
    begin, visible, in_run = len(tokens), 0, False
    while begin and (visible < _CONTEXT_TOKENS or in_run):
        begin -= 1
        if not forms.is_hidden(tokens[begin]):
            visible, in_run = visible + 1, forms.is_byte(tokens[begin])
    text.begin(tokens[begin : len(prompt)], tokens[max(begin, len(prompt)) :])
    return text


class _ByteText(Text):
    """All tokens are bytes."""

    def __init__(self, forms: TokenForms) -> None:
        super().__init__(forms)
        self._incomplete = b""

    @property
    def held(self) -> str:
        return self._incomplete.decode(errors="replace")

    def _add(self, token: int) -> Piece:
        held, unread = self.held, self._incomplete + (self._forms.form(token) or b"")
        text, read = codecs.utf_8_decode(unread, "replace", False)
        self._incomplete = unread[read:]
        return text, _shared(held, text)


class _WindowText(Text):
    """Tokens are decoded with a few before them, since only the tokenizer can join them."""

    def __init__(self, forms: TokenForms) -> None:
        super().__init__(forms)
        self._window: tuple[int, ...] = ()
        self._shown = 0  # characters of the window's text
        self._held = ""

    @property
    def held(self) -> str:
        return self._held

    def _add(self, token: int) -> Piece:
        held = self._held
        text = self._extend([token])
        return text, _shared(held, text)

    def _extend(self, tokens: Sequence[int]) -> str:
        """Returns the text that tokens make certain."""
        self._window = (*self._window, *tokens)
        certain, self._held = self._decode(self._window)
        text, self._shown = certain[self._shown :], max(self._shown, len(certain))
        if len(self._window) > _MAX_WINDOW_TOKENS:
            context = self._window[-_CONTEXT_TOKENS:]
            certain, _ = self._decode(context)
            if certain:  # else the next token would come out as at the beginning of a text
                self._window, self._shown = context, len(certain)
        return text

    def _decode(self, tokens: Sequence[int]) -> tuple[str, str]:
        """Returns the text of tokens that is certain, and what the next one may change."""
        text = self._forms.decode(tokens)
        return (text[:-1], _UNKNOWN) if text.endswith(_UNKNOWN) else (text, "")


class _RunText(_WindowText):
    """Some tokens are a byte each. A run of them is shown as a whole when another token ends it, or
    once it can be no UTF-8.
    """

    def __init__(self, forms: TokenForms) -> None:
        super().__init__(forms)
        self._run: list[int] = []
        self._incomplete: bytes | None = b""
        """The last bytes of the run that are no whole character; None if the run is no UTF-8."""

    @property
    def held(self) -> str:
        if not self._run or self._incomplete is None:
            return ""
        return self._forms.decode([*self._window, *self._run])[self._shown :]

    def fork(self) -> Text:
        fork = copy(self)
        fork._run = list(self._run)
        return fork

    def _add(self, token: int) -> Piece:
        if self._forms.is_byte(token):
            return self._add_byte(token)
        held, run = self.held, self._run
        self._run, self._incomplete = [], b""
        text = self._extend([*run, token])
        return text, _shared(held, text)

    def _add_byte(self, token: int) -> Piece:
        if self._incomplete is None:  # a run that was shown needs no more tokens to be told apart
            return _UNKNOWN, 0
        unread = self._incomplete + (self._forms.form(token) or b"")
        try:
            _, read = codecs.utf_8_decode(unread, "strict", False)
        except UnicodeDecodeError:
            earlier = _shared(self.held, _UNKNOWN * len(self._run))
            self._run.append(token)
            self._incomplete = None
            self._shown += len(self._run)
            return _UNKNOWN * len(self._run), earlier
        self._run.append(token)
        self._incomplete = unread[read:]
        return "", 0

    def _decode(self, tokens: Sequence[int]) -> tuple[str, str]:
        return self._forms.decode(tokens), ""


_KINDS: dict[Joining, type[Text]] = {
    Joining.BYTES: _ByteText,
    Joining.BYTE_RUNS: _RunText,
    Joining.OPAQUE: _WindowText,
}


def _shared(one: str, other: str) -> int:
    """Returns the number of characters with which both texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
