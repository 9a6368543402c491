"""The blocking client. Its asynchronous twin, `_async_client`, differs by `await` alone.

Knows nothing of how requests are built or results folded: `_messages` does both for the two.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from foredraft._errors import from_rpc
from foredraft._messages import Call, Folding, build_call, info_from, prompt_message
from foredraft._retry import DEFAULT_TIMEOUT_S, OPTIONS, Route, addresses, may_retry
from foredraft._streamers import StreamerFeed
from foredraft._types import Chunk, ModelInfo
from foredraft.metrics import CallTimer, for_registry
from foredraft.v1 import target_pb2, target_pb2_grpc


class Stream:
    """Chunks as they come; also a context manager, which ends the call when it is left.

    Raises, while it is read: a ForedraftError with the tokens so far in `partial`.
    """

    def __init__(self, client: "Client", call: Call, timeout_s: float | None) -> None:
        self._client, self._call = client, call
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._folding = Folding(call)
        self._timer = CallTimer(client._metrics)
        self._rpc: Any = None
        self._chunks = self._read()

    @property
    def result(self) -> Any:
        """The Result once the stream has ended; a list for several sequences.

        Raises:
            ForedraftError: it has not ended yet.
        """
        return self._folding.result()

    def close(self) -> None:
        """Ends the call, which frees the service's rows at once. After the end it does nothing."""
        self._chunks.close()
        if self._rpc is not None:
            self._rpc.cancel()
        self._timer.end("cancelled")

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, feed: StreamerFeed | None = None) -> Iterator[Chunk]:
        for stub, pause in self._client._route.attempts():
            timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            self._rpc = stub.Generate(self._call.request, timeout=timeout, metadata=self._client._metadata)
            try:
                for message in self._rpc:
                    chunk = self._folding.add(message)
                    if feed:
                        feed.put(self._folding, chunk)
                    if chunk is not None:
                        self._timer.chunk(chunk)
                        yield chunk
                self._timer.end("ok")
                return
            except grpc.RpcError as error:
                if pause is None or not may_retry(error, self._folding.began):
                    self._timer.end(error.code().name.lower())
                    raise self._folding.error(error) from error
                time.sleep(pause)
            finally:
                self._rpc.cancel()


class Client:
    """A connection to one target service, or to several that serve the same model.

        with Client("127.0.0.1:50052") as client:
            print(client.generate("def main(", max_new_tokens=64).text)
    """

    def __init__(
        self,
        address: str | Sequence[str] = "127.0.0.1:50052",
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        max_retries: int = 2,
        metadata: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """timeout: seconds for a call, None for ever. max_retries: tries after the first, before any token came.
        metadata: sent with every call, e.g. {"authorization": ...}. registry: for the client's metrics."""
        self._timeout_s = timeout
        self._metadata = tuple((metadata or {}).items())
        self._metrics = for_registry(registry)
        self._channels = [
            grpc.secure_channel(a, credentials, OPTIONS) if credentials else grpc.insecure_channel(a, OPTIONS)
            for a in addresses(address)
        ]
        self._route = Route([target_pb2_grpc.TargetServiceStub(c) for c in self._channels], max_retries)

    def generate(
        self,
        inputs: Any,
        generation_config: Any = None,
        *,
        streamer: Any = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generates, and returns the Result; a list of them for a batch or for several sequences.

        Args:
            inputs: text, token ids, or chat messages ({"role", "content"}); a list of those is a batch.
            generation_config: a GenerationConfig, foredraft's or transformers'.
            streamer: a transformers streamer, for one sequence.
            timeout: seconds, instead of the client's.
            kwargs: fields of GenerationConfig, over those of `generation_config`; also `seed`,
                `sampling_rule` ("rejection" or "coupled"), `logprobs` (most likely tokens to
                return for each position, 0 for the chosen one's alone), `generated_ids` (tokens
                to go on from).

        Raises:
            InvalidRequestError: a parameter that cannot be honoured; it is named.
            ForedraftError: the call failed; `partial` holds what came before.
        """
        call = build_call(inputs, generation_config, return_prompt_ids=streamer is not None, **kwargs)
        feed = StreamerFeed(streamer, call)
        try:
            stream = Stream(self, call, self._timeout_s if timeout is None else timeout)
            for _ in stream._read(feed):
                pass
        finally:
            feed.end()
        return stream.result

    def stream(self, inputs: Any, generation_config: Any = None, *, timeout: float | None = None, **kwargs: Any) -> Stream:
        """As `generate`, chunk by chunk. Leaving the stream ends the call."""
        call = build_call(inputs, generation_config, **kwargs)
        return Stream(self, call, self._timeout_s if timeout is None else timeout)

    def tokenize(self, inputs: Any) -> list[int]:
        """Token ids of a text or a conversation, as generation would use them."""
        request = target_pb2.TokenizeRequest(prompt=prompt_message(inputs))
        return list(self._unary("Tokenize", request).token_ids.ids)

    def info(self) -> ModelInfo:
        """What generates behind the address."""
        return info_from(self._unary("GetModelInfo", target_pb2.GetModelInfoRequest()))

    def close(self) -> None:
        """Closes the connections; calls in progress end."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unary(self, method: str, request: Any) -> Any:
        for stub, pause in self._route.attempts():
            try:
                return getattr(stub, method)(request, timeout=self._timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                if pause is None or not may_retry(error, began=False):
                    raise from_rpc(error) from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")
