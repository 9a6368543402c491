"""transformers' streamers, fed from a call.

This module imports torch only if there is a streamer. It knows nothing of calls, nor of what a
streamer does with tokens.
"""

from collections.abc import Sequence
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft._types import Chunk


class StreamerFeed:
    """Feeds a streamer with the prompt and then with every chunk; without a streamer it does
    nothing.
    """

    def __init__(self, streamer: Any) -> None:
        """
        Raises:
            InvalidRequestError: what is given is no streamer.
        """
        if streamer is not None and not (hasattr(streamer, "put") and hasattr(streamer, "end")):
            kind = type(streamer).__name__
            message = f"streamer: {kind} is none; pass one of transformers', with put and end"
            raise InvalidRequestError(message, field="streamer")
        self._streamer, self._has_prompt = streamer, False
        if streamer is not None:
            import torch  # a streamer takes tensors, so its owner has torch

            self._torch: Any = torch

    @property
    def wanted(self) -> bool:
        """Whether there is a streamer."""
        return self._streamer is not None

    def check(self, several: bool) -> None:
        """Checks a call before it begins.

        Raises:
            InvalidRequestError: the call has several sequences, which a streamer cannot tell apart.
        """
        if self.wanted and several:
            message = "streamer: takes one sequence; use stream() for several"
            raise InvalidRequestError(message, field="streamer")

    def prompt(self, ids: Sequence[int]) -> None:
        """Feeds the prompt, which comes first: a streamer may take what comes first for the prompt,
        and skip it. A call that begins again after a loss feeds it once.
        """
        if self.wanted and not self._has_prompt:
            self._has_prompt = True
            self._streamer.put(self._torch.tensor([list(ids)], dtype=self._torch.long))  # [1, n]

    def chunk(self, chunk: Chunk) -> None:
        """Feeds the tokens of a chunk."""
        # The model's own config may ask for several sequences where the call does not.
        self.check(chunk.sequence_index > 0)
        if self.wanted and chunk.token_ids:
            self._streamer.put(
                self._torch.tensor(chunk.token_ids, dtype=self._torch.long)
            )  # [tokens]

    def end(self) -> None:
        """Ends the streamer, however the call ended: somebody may wait for it in another thread."""
        if self.wanted:
            self._streamer.end()
