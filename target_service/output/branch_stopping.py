"""The stop conditions of texts that branch from one another.

All texts have the same conditions, and each has its own state. This module knows nothing of how
texts are chosen.
"""

from collections.abc import Sequence

from target_service.output.stopping import Stopping

Text = tuple[int, ...]


class BranchStopping:
    """The stop conditions of the texts of one search. A text is its generated tokens."""

    def __init__(self, root: Stopping) -> None:
        """Starts from the stop conditions of the prompt, before any token."""
        self._root = root
        self._states: dict[Text, Stopping] = {(): root}

    def ends(self, text: Text) -> bool:
        """Returns whether a text ends with its last token; its parent must have been kept."""
        if self._root.is_out_of_time():
            return True
        if not self._root.reads_text:  # no state is needed
            return text[-1] in self._root.eos_token_id or len(text) >= self._root.tokens_left
        return bool(self._state(text).reason)

    def keep(self, texts: Sequence[Text]) -> None:
        """Keeps the states of the texts that go on, and drops all others."""
        if self._root.reads_text:
            self._states = {text: self._state(text) for text in texts}

    def _state(self, text: Text) -> Stopping:
        if text not in self._states:
            self._states[text] = self._states[text[:-1]].fork()
            self._states[text].take(text[-1:])
        return self._states[text]
