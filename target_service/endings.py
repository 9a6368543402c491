"""When texts that branch from one another end. Each follows its own course, from the same stop conditions.

Knows nothing of which of them go on: it is told.
"""

from collections.abc import Sequence

from target_service.stopping import Stopping

Text = tuple[int, ...]


class Endings:
    """Of the texts of one search, which are generated tokens."""

    def __init__(self, root: Stopping) -> None:
        """root: of the prompt, before any token."""
        self._root = root
        self._states: dict[Text, Stopping] = {(): root}
        self._next: dict[Text, Stopping] = {}

    @property
    def eos_token_id(self) -> frozenset[int]:
        """Tokens that end a text."""
        return self._root.eos_token_id

    def ends(self, text: Text) -> bool:
        """Whether a text ends with its last token; its parent was among those kept last."""
        if self._root.out_of_time():
            return True
        if not self._root.reads_text:  # its tokens say it all
            return text[-1] in self._root.eos_token_id or len(text) >= self._root.room
        state = self._next[text] = self._states[text[:-1]].fork()
        return bool(state.take(text[-1:]).reason)

    def keep(self, texts: Sequence[Text]) -> None:
        """These go on, and no others."""
        if self._root.reads_text:
            self._states = {text: self._next[text] for text in texts if text in self._next}
            self._next = {}
