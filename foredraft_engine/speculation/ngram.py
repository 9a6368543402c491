"""Drafts by n-gram lookup: proposes what followed the same tokens earlier in the text.

A suffix automaton (Blumer et al. 1985) over prompt and output finds the longest suffix, up to a
bound, that occurred earlier, and the latest of its occurrences. For a given bound each token takes
amortised constant time, because nothing is scanned again. Tokens are only ever appended, since only
committed tokens enter.

This module knows nothing of models. Proposed tokens are certain, so that q is one-hot.
"""

from collections.abc import Iterable

from foredraft_engine.proposal import NOTHING, Proposal


class NgramDrafter:
    """The automaton over one sequence."""

    def __init__(self, tokens: Iterable[int] = (), *, max_ngram: int = 2) -> None:
        """Looks up suffixes of at most `max_ngram` tokens, which is at least 1."""
        self.tokens: list[int] = []
        self._max_ngram = max_ngram
        # A state stands for substrings that end at the same places. `_length` is that of the
        # longest, `_link` the state of the next shorter suffix, `_end` the last place where they
        # ended before the newest token (-1: none). `_end` is kept for states with a string within
        # the bound.
        self._next: list[dict[int, int]] = [{}]
        self._length: list[int] = [0]
        self._link: list[int] = [-1]
        self._end: list[int] = [-1]
        self._last = 0  # the state of the whole text
        self._state = 0  # the state of its suffix of at most max_ngram tokens
        self._matched = 0  # the length of that suffix
        self.match_length = 0
        """The length of the longest suffix that occurred earlier."""
        self._match_end = -1
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Appends committed tokens."""
        for token in tokens:
            self.tokens.append(token)
            self._append(token)
            self._follow(token)

    def propose(self, k: int, stop: frozenset[int] = frozenset()) -> Proposal:
        """Proposes up to k tokens that followed the longest suffix where it occurred last.

        A continuation that reaches the end of the text goes on with itself, as a repetition would.
        It ends before a token of `stop`, because where an earlier text ended says little about the
        end of this one.
        """
        if self.match_length == 0 or k <= 0:
            return NOTHING
        found: list[int] = []
        for source in range(self._match_end + 1, self._match_end + 1 + k):
            here = len(self.tokens)
            token = self.tokens[source] if source < here else found[source - here]
            if token in stop:
                break
            found.append(token)
        return Proposal(tuple(found), None, "ngram") if found else NOTHING

    def _append(self, token: int) -> None:
        """Adds the state of the whole text, as in the textbook."""
        new = self._add_state(self._length[self._last] + 1, {}, 0, -1)
        state = self._last
        while state != -1 and token not in self._next[state]:
            self._next[state][token] = new
            state = self._link[state]
        if state != -1:
            target = self._next[state][token]
            if self._length[state] + 1 == self._length[target]:
                self._link[new] = target
            else:
                self._link[new] = self._link[target] = self._split(state, token, target)
        self._last = new

    def _split(self, state: int, token: int, target: int) -> int:
        """Splits the shorter strings of `target` off: the longer ones now end in fewer places."""
        short = self._add_state(
            self._length[state] + 1, dict(self._next[target]), self._link[target], self._end[target]
        )
        while state != -1 and self._next[state].get(token) == target:
            self._next[state][token] = short
            state = self._link[state]
        return short

    def _add_state(self, length: int, follow: dict[int, int], link: int, end: int) -> int:
        self._next.append(follow)
        self._length.append(length)
        self._link.append(link)
        self._end.append(end)
        return len(self._length) - 1

    def _follow(self, token: int) -> None:
        """Moves to the bounded suffix, reads its last occurrence, then records this one."""
        self._state = self._next[self._state][token]
        self._matched = min(self._matched + 1, self._max_ngram)
        while self._length[self._link[self._state]] >= self._matched:
            self._state = self._link[self._state]
        self.match_length, self._match_end = 0, -1
        here = len(self.tokens) - 1
        state, longest = self._state, self._matched
        while state > 0:
            if self._end[state] >= 0 and self.match_length == 0:
                self.match_length, self._match_end = longest, self._end[state]
            self._end[state] = here
            state = self._link[state]
            longest = self._length[state]
