"""Texts and their places in a grammar: which tokens may come next, and which ones have to.

Both are functions of the text. The state of a parser, which is kept, saves work and changes no
answer: it is rolled back when a proposed token is rejected or when another branch is asked for.
This module knows nothing of formats, or of scores.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foredraft_engine.errors import InvalidFieldError

FIELD = "response_format"
# Branches of one text that have a parser of their own. A branch that differs from another one by
# few tokens shares its parser.
_MOST_PLACES, _FEW_TOKENS = 16, 16


class Grammar:
    """A compiled grammar. Threads may share it."""

    def __init__(self, matcher: Any, end_id: int, is_canonical: bool) -> None:
        """
        Args:
            matcher: llguidance's parser before any token; it is never moved.
            end_id: the id by which the parser says that a text may end. No token of the model has
                it, so that each call may have end-of-sequence tokens of its own.
            is_canonical: whether forced text is tokenised as the model's tokenizer does it.
        """
        self._matcher, self.end_id, self.is_canonical = matcher, end_id, is_canonical

    @property
    def words(self) -> int:
        """The number of 32-bit words in a mask."""
        return self.end_id // 32 + 1

    def parser(self) -> Any:
        """Returns a parser of its own for a text that begins."""
        return self._matcher.deep_copy()


class GrammarText:
    """One text, with its branches, that is held to a grammar. A text is its generated tokens."""

    def __init__(self, grammar: Grammar, ends: Sequence[int]) -> None:
        """
        Args:
            ends: the tokens that end the text. They come where the grammar lets the text end, and
                nowhere else.
        """
        self.grammar, self._ends = grammar, tuple(ends)
        self._places = [_Place(grammar.parser(), [])]

    def masks(self, text: Sequence[int], count: int) -> NDArray[np.int32]:
        """Returns which tokens may stand at the last `count` positions, int32 [count, words].

        Bit i of a row is that of token i. A position after the end of the text, or after a token
        that the grammar does not allow, has all bits: nothing that is drawn there is used.

        Args:
            text: ends before the last position; row i follows text[: len(text) - count + 1 + i].

        Raises:
            InvalidFieldError: the grammar takes too much work here.
        """
        masks = np.full((count, self.grammar.words), -1, dtype=np.int32)
        first = len(text) - count + 1
        place = self._at(text[:first])
        for row in range(count):
            if place is None:
                break
            self._fill(place, masks, row)
            if row + 1 < count and not place.take(text[first + row : first + row + 1], self._ends):
                break
        return masks

    def forced(self, text: Sequence[int]) -> tuple[int, ...]:
        """Returns the tokens that have to follow a text; none where there is a choice.

        Raises:
            InvalidFieldError: the grammar takes too much work here.
        """
        place = self._at(text)
        if place is None or not self.grammar.is_canonical:
            return ()
        forced: list[int] = place.parser.compute_ff_tokens()
        place.check()
        is_whole = place.take(forced, self._ends) and place.parser.is_stopped()
        return (*forced, *self._ends) if is_whole and len(self._ends) == 1 else tuple(forced)

    def holds(self, text: Sequence[int]) -> bool:
        """Returns whether the grammar allows a text that has not ended."""
        return self._at(text) is not None

    def _fill(self, place: "_Place", masks: NDArray[np.int32], row: int) -> None:
        bits = masks.view(np.uint32)[row]
        place.parser.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        place.check()
        may_end = _bit(bits, self.grammar.end_id)
        for token, is_set in ((self.grammar.end_id, False), *((e, may_end) for e in self._ends)):
            word, bit = token // 32, np.uint32(1 << token % 32)
            bits[word] = bits[word] | bit if is_set else bits[word] & ~bit

    def _at(self, text: Sequence[int]) -> "_Place | None":
        """Returns the parser after a text; None if the text has ended, or left the grammar."""
        text = list(text)
        place = max(self._places, key=lambda one: one.shared(text))
        shared = place.shared(text)
        if len(place.tokens) - shared > _FEW_TOKENS:
            place = place.fork()
        else:
            self._places.remove(place)
        self._places = [*self._places[-_MOST_PLACES + 1 :], place]
        place.rollback(shared)
        return place if place.take(text[shared:], self._ends) else None


class _Place:
    """A parser, and the tokens that it has taken."""

    def __init__(self, parser: Any, tokens: list[int]) -> None:
        self.parser, self.tokens = parser, tokens

    def fork(self) -> "_Place":
        return _Place(self.parser.deep_copy(), list(self.tokens))

    def shared(self, text: list[int]) -> int:
        """Returns how many first tokens of a text it has taken."""
        own, most = self.tokens, min(len(self.tokens), len(text))
        if own[:most] == text[:most]:
            return most
        return bisect_left(range(1, most + 1), True, key=lambda n: own[:n] != text[:n])

    def rollback(self, length: int) -> None:
        if len(self.tokens) > length:
            self.parser.rollback(len(self.tokens) - length)
            del self.tokens[length:]

    def take(self, tokens: Sequence[int], ends: tuple[int, ...]) -> bool:
        """Takes tokens as far as they go on with the text, and returns whether all of them do."""
        going_on = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        allowed = self.parser.validate_tokens(list(tokens[:going_on])) if going_on else 0
        if allowed:
            self.parser.consume_tokens(list(tokens[:allowed]))
            self.check()
            self.tokens += tokens[:allowed]
        return bool(allowed == len(tokens))

    def check(self) -> None:
        """Raises the error that the parser has met."""
        if self.parser.is_error():
            reason = " ".join(str(self.parser.get_error()).split())[:200]
            raise InvalidFieldError(FIELD, f"cannot be followed any further: {reason}")


def _bit(bits: NDArray[np.uint32], index: int) -> bool:
    return bool(bits[index // 32] >> np.uint32(index % 32) & np.uint32(1))
