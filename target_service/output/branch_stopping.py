"""When texts that branch from one another end. Each follows its own course, from the same stop
conditions.

Knows nothing of which of them go on: it is told.
"""

from collections.abc import Sequence

from target_service.output.stopping import Stopping

Text = tuple[int, ...]


class BranchStopping:
    """Of the texts of one search, which are generated tokens."""

    def __init__(self, root: Stopping) -> None:
        """root: of the prompt, before any token."""
        self._root = root
        self._states: dict[Text, Stopping] = {(): root}

    def ends(self, text: Text) -> bool:
        """Whether a text ends with its last token; its parent was among those kept last."""
        if self._root.out_of_time():
            return True
        if not self._root.reads_text:  # its tokens say it all
            return text[-1] in self._root.eos_token_id or len(text) >= self._root.tokens_left
        return bool(self._state(text).reason)

    def keep(self, texts: Sequence[Text]) -> None:
        """These go on, and no others."""
        if self._root.reads_text:
            self._states = {text: self._state(text) for text in texts}

    def _state(self, text: Text) -> Stopping:
        if text not in self._states:
            self._states[text] = self._states[text[:-1]].fork()
            self._states[text].take(text[-1:])
        return self._states[text]
