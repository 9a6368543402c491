"""The asynchronous client.

This module knows nothing of how requests are built, results read and attempts counted: `_call`,
`_results` and `_channel` do that for both clients.
"""

from typing import Literal, Unpack, overload

from foredraft._async_stream import AsyncStream
from foredraft._async_texts import AsyncTexts
from foredraft._call import Call, build_call
from foredraft._call_progress import CallProgress
from foredraft._inputs import (
    Array,
    CallOptions,
    Config,
    Encoding,
    Ids,
    Prompt,
    PromptBatch,
    Streamer,
)
from foredraft._streamers import StreamerFeed
from foredraft._types import Result


class AsyncClient(AsyncTexts):
    """A client of one target service, or of several that serve the same model.

    It belongs to the event loop of its first call.

        async with AsyncClient("127.0.0.1:50052") as client:
            result = await client.generate("def main(", max_new_tokens=64)
            print(result.text)
    """

    # A literal 1 is an int, for which the next signature returns a list.
    @overload
    async def generate(  # type: ignore[overload-overlap]
        self,
        inputs: Prompt,
        generation_config: Config | None = None,
        *,
        num_return_sequences: Literal[1] | None = None,
        streamer: Streamer | None = None,
        **options: Unpack[CallOptions],
    ) -> Result: ...
    @overload
    async def generate(
        self,
        inputs: Prompt,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int,
        streamer: Streamer | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Result]: ...
    @overload
    async def generate(
        self,
        inputs: PromptBatch,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int | None = None,
        streamer: Streamer | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Result]: ...
    @overload
    async def generate(
        self,
        inputs: Array | Encoding,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int | None = None,
        streamer: Streamer | None = None,
        **options: Unpack[CallOptions],
    ) -> Result | list[Result]: ...
    @overload
    async def generate(
        self,
        inputs: None = None,
        generation_config: Config | None = None,
        *,
        input_ids: Ids,
        num_return_sequences: int | None = None,
        streamer: Streamer | None = None,
        **options: Unpack[CallOptions],
    ) -> Result | list[Result]: ...
    async def generate(
        self,
        inputs: Prompt | PromptBatch | Array | Encoding | None = None,
        generation_config: Config | None = None,
        *,
        input_ids: Ids | None = None,
        num_return_sequences: int | None = None,
        streamer: Streamer | None = None,
        **options: Unpack[CallOptions],
    ) -> Result | list[Result]:
        """Generates a text; for a batch or several sequences, a list of texts, prompt by prompt.

        A config object, a named config or the model's own config can ask for several sequences,
        too: then one prompt gives a list. Types cannot tell that; `num_return_sequences` can.

        Args:
            inputs: text, token ids or chat messages, or a batch of them. A tensor or an array holds
                token ids; with two dimensions it is a batch. So is what a tokenizer returns, whose
                mask says what is padding; it can also be unpacked: `generate(**tokenizer(...))`.
            generation_config: a config of foredraft or transformers, or the name of one that the
                service keeps.
            input_ids: token ids in place of `inputs`.
            num_return_sequences: the number of sequences for each prompt.
            streamer: a streamer as those of transformers, for one sequence.
            options: generation fields, which go over those of `generation_config`, and what
                `CallOptions` lists: `seed`, `logprobs`, `timeout`, `resume` and others.

        Raises:
            InvalidRequestError: an argument cannot be honoured; it is named.
            ForedraftError: the call failed; `partial` holds what came before.
            asyncio.CancelledError: the task was cancelled, which ended the call.
        """
        feed = StreamerFeed(streamer)
        try:
            arguments = {
                "input_ids": input_ids,
                "num_return_sequences": num_return_sequences,
                **options,
            }
            call = build_call(inputs, generation_config, arguments, return_prompt_ids=feed.wanted)
            feed.check(call.is_list)
            async with self._open(call, options.get("timeout"), feed) as stream:
                async for _ in stream:
                    pass
            return stream.result
        finally:
            feed.end()

    # A literal 1 is an int, for which the next signature returns a list.
    @overload
    def stream(  # type: ignore[overload-overlap]
        self,
        inputs: Prompt,
        generation_config: Config | None = None,
        *,
        num_return_sequences: Literal[1] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStream[Result]: ...
    @overload
    def stream(
        self,
        inputs: Prompt,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int,
        **options: Unpack[CallOptions],
    ) -> AsyncStream[list[Result]]: ...
    @overload
    def stream(
        self,
        inputs: PromptBatch,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStream[list[Result]]: ...
    @overload
    def stream(
        self,
        inputs: Array | Encoding,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStream[Result | list[Result]]: ...
    @overload
    def stream(
        self,
        inputs: None = None,
        generation_config: Config | None = None,
        *,
        input_ids: Ids,
        num_return_sequences: int | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStream[Result | list[Result]]: ...
    def stream(
        self,
        inputs: Prompt | PromptBatch | Array | Encoding | None = None,
        generation_config: Config | None = None,
        *,
        input_ids: Ids | None = None,
        num_return_sequences: int | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStream[Result | list[Result]]:
        """Generates as `generate` does, chunk by chunk.

        The call begins when the first chunk is read. Leaving the stream ends it.

        Raises:
            InvalidRequestError: an argument cannot be honoured; it is named.
        """
        arguments = {
            "input_ids": input_ids,
            "num_return_sequences": num_return_sequences,
            **options,
        }
        return self._open(build_call(inputs, generation_config, arguments), options.get("timeout"))

    def _open(
        self, call: Call, timeout: float | None, feed: StreamerFeed | None = None
    ) -> AsyncStream[Result | list[Result]]:
        attempts = self._attempts(timeout)
        progress = CallProgress(call, attempts, self._metadata, self._metrics, feed)
        stream = AsyncStream[Result | list[Result]](progress)
        self._connections.watch(stream)
        return stream
