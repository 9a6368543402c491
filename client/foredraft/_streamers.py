"""transformers' streamers, fed from a stream. Imports torch only when a streamer is there.

Knows nothing of calls.
"""

from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft._messages import Call, Folding
from foredraft._types import Chunk


class StreamerFeed:
    """Feeds `put` with the prompt, then with every chunk, and calls `end` on every path."""

    def __init__(self, streamer: Any, call: Call) -> None:
        if streamer is not None and call.is_list:
            raise InvalidRequestError("streamer: takes one sequence; use stream() for several", field="streamer")
        self._streamer = streamer
        self._began = False

    def put(self, folding: Folding, chunk: Chunk | None) -> None:
        """After every message."""
        if self._streamer is None:
            return
        import torch

        if not self._began and folding.prompt_ids:
            self._began = True
            self._streamer.put(torch.tensor([folding.prompt_ids[0]]))
        if chunk is not None and chunk.token_ids:
            self._streamer.put(torch.tensor(chunk.token_ids))

    def end(self) -> None:
        """At the end, whatever the end is."""
        if self._streamer is not None:
            self._streamer.end()
