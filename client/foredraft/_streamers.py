"""transformers' streamers, fed from a call. Imports torch only when there is a streamer.

Knows nothing of calls and of what a streamer does with the tokens.
"""

from collections.abc import Sequence
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft._types import Chunk


class StreamerFeed:
    """Feeds `put` with the prompt, then with every chunk; without a streamer, nothing."""

    def __init__(self, streamer: Any) -> None:
        self._streamer = streamer
        if streamer is not None:
            import torch  # the caller's streamer wants tensors, so the caller has it

            self._torch: Any = torch

    @property
    def wanted(self) -> bool:
        """Whether there is a streamer."""
        return self._streamer is not None

    def check(self, several: bool) -> None:
        """Before the call.

        Raises:
            InvalidRequestError: several sequences, which streamers cannot tell from each other.
        """
        if self.wanted and several:
            message = "streamer: takes one sequence; use stream() for several"
            raise InvalidRequestError(message, field="streamer")

    def prompt(self, ids: Sequence[int]) -> None:
        """First of all: a streamer may take what comes first for the prompt, and skip it."""
        if self.wanted:
            self._streamer.put(self._torch.tensor([list(ids)], dtype=self._torch.long))  # [1, n]

    def chunk(self, chunk: Chunk) -> None:
        """Tokens came."""
        # The model's own config may ask for several sequences where the call does not.
        self.check(chunk.sequence_index > 0)
        if self.wanted and chunk.token_ids:
            self._streamer.put(
                self._torch.tensor(chunk.token_ids, dtype=self._torch.long)
            )  # [tokens]

    def end(self) -> None:
        """At the end, whatever the end is: somebody may wait for the streamer in another thread."""
        if self.wanted:
            self._streamer.end()
