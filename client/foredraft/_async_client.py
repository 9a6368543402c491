"""The asynchronous client. Its blocking twin, `_client`, differs by `await` alone.

Knows nothing of how requests are built, results folded and attempts counted: `_messages`, `_course`
and `_channel` do that for the two.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from foredraft._async_stream import AsyncStream
from foredraft._channel import (
    DEFAULT_TIMEOUT_S,
    OPTIONS,
    Attempts,
    Route,
    addresses_of,
    metadata_of,
    retries_of,
    timeout_of,
)
from foredraft._course import Course
from foredraft._detection import detection_request, detections_from
from foredraft._errors import ForedraftError, from_rpc
from foredraft._generation_config import GenerationConfig
from foredraft._messages import Call, Extras, build_call, info_from
from foredraft._prompts import prompt_message
from foredraft._streamers import StreamerFeed
from foredraft._types import ModelInfo
from foredraft.metrics import for_registry
from foredraft.v1 import target_pb2, target_pb2_grpc
from foredraft.wire.config import config_from, config_message


class AsyncClient:
    """A connection to one target service, or to several that serve the same model; of one event
    loop.

    async with AsyncClient("127.0.0.1:50052") as client:
        print((await client.generate("def main(", max_new_tokens=64)).text)
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
        """Connects at the first call, in the loop that runs then.

        Args:
            address: host:port, or a list: each call begins with the next one, each retry goes on to
            the next.
            timeout: seconds for a call, retries included; None is for ever.
            max_retries: tries after the first, as long as nothing came and the service cannot be
            reached.
            metadata: sent with every call, e.g. {"authorization": "Bearer ..."}.
            credentials: gRPC's, for TLS; none is plain text.
            registry: of prometheus_client, for the client's metrics; by default its global one.

        Raises:
            InvalidRequestError: an argument that makes no sense.
        """
        self._addresses, self._credentials = addresses_of(address), credentials
        self._max_retries, self._timeout_s = retries_of(max_retries), timeout_of(timeout, None)
        self._metadata, self._metrics = metadata_of(metadata), for_registry(registry)
        self._channels: list[grpc.aio.Channel] = []
        self._route: Route | None = None
        self._streams: WeakSet[AsyncStream] = WeakSet()
        self._closed = False

    async def generate(
        self,
        inputs: Any,
        generation_config: Any = None,
        *,
        streamer: Any = None,
        seed: int | None = None,
        sampling_rule: str | None = None,
        logprobs: int | None = None,
        timeout: float | None = None,
        generated_ids: Any = None,
        negative_prompt: Any = None,
        stopping_criteria: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As `Client.generate`.

        Raises:
            InvalidRequestError: a parameter that cannot be honoured; it is named.
            ForedraftError: the call failed; `partial` holds what came before.
            asyncio.CancelledError: the task was cancelled; the call is ended.
        """
        feed = StreamerFeed(streamer)
        try:
            extras = Extras(
                seed, sampling_rule, logprobs, generated_ids, negative_prompt, stopping_criteria
            )
            call = build_call(
                inputs, generation_config, kwargs, extras, return_prompt_ids=feed.wanted
            )
            feed.check(call.is_list)
            async with self._open(call, timeout, feed) as stream:
                async for _ in stream:
                    pass
            return stream.result
        finally:
            feed.end()

    def stream(
        self,
        inputs: Any,
        generation_config: Any = None,
        *,
        seed: int | None = None,
        sampling_rule: str | None = None,
        logprobs: int | None = None,
        timeout: float | None = None,
        generated_ids: Any = None,
        negative_prompt: Any = None,
        stopping_criteria: Any = None,
        **kwargs: Any,
    ) -> AsyncStream:
        """As `generate`, chunk by chunk; the call begins with the first. Leaving the stream ends
        it.

        Raises:
            InvalidRequestError: a parameter that cannot be honoured; it is named.
        """
        extras = Extras(
            seed, sampling_rule, logprobs, generated_ids, negative_prompt, stopping_criteria
        )
        call = build_call(inputs, generation_config, kwargs, extras)
        return self._open(call, timeout)

    async def tokenize(self, inputs: Any, *, timeout: float | None = None) -> list[int]:
        """Token ids of a text or a conversation, as generation would use them. timeout: seconds.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.TokenizeRequest(prompt=prompt_message(inputs))
        return list((await self._unary("Tokenize", request, timeout)).token_ids.ids)

    async def detect_watermark(
        self,
        inputs: Any,
        watermarking_config: Any = None,
        *,
        z_threshold: float | None = None,
        ignore_repeated_ngrams: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """As `Client.detect_watermark`."""
        request, is_batch = detection_request(
            inputs, watermarking_config, z_threshold, ignore_repeated_ngrams
        )
        return detections_from(await self._unary("DetectWatermark", request, timeout), is_batch)

    async def info(self, *, timeout: float | None = None) -> ModelInfo:
        """What generates behind the address. timeout: seconds.

        Raises:
            ForedraftError: the call failed.
        """
        return info_from(
            await self._unary("GetModelInfo", target_pb2.GetModelInfoRequest(), timeout)
        )

    async def generation_config(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> GenerationConfig:
        """What the model's own generation config sets, or a named one of the model. timeout:
        seconds.

        Raises:
            InvalidRequestError: there is none of this name, or it cannot be used.
            ForedraftError: the call failed.
        """
        if name is None:
            return (await self.info(timeout=timeout)).generation_config
        request = target_pb2.GetGenerationConfigRequest(name=name)
        return config_from((await self._unary("GetGenerationConfig", request, timeout)).config)

    async def generation_configs(self, *, timeout: float | None = None) -> list[str]:
        """Names of the model's generation configs, for `generation_config` of a call. timeout:
        seconds.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.ListGenerationConfigsRequest()
        return list((await self._unary("ListGenerationConfigs", request, timeout)).names)

    async def save_generation_config(
        self,
        name: str,
        generation_config: Any = None,
        *,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Keeps a config with the model, in place of one of that name. Parameters as those of
        `generate`.

        Raises:
            InvalidRequestError: no name, or a parameter that a call could not be made with; it is
            named.
            PermissionDeniedError: the operator does not allow it.
            ForedraftError: the call failed.
        """
        config = config_message(generation_config, kwargs)
        request = target_pb2.SaveGenerationConfigRequest(name=name, config=config)
        await self._unary("SaveGenerationConfig", request, timeout)

    async def close(self) -> None:
        """Closes the connections; generations in progress end with RequestCancelledError."""
        self._closed = True
        for stream in list(
            self._streams
        ):  # grpc.aio does not find calls that are awaited inside of ours
            await stream.close()
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _attempts(self, timeout: float | None) -> Attempts:
        if self._closed:
            raise ForedraftError("the client is closed")
        if self._route is None:
            # Not in __init__: a channel belongs to the running loop, and there may be none yet.
            self._channels = [self._channel(address) for address in self._addresses]
            stubs = [target_pb2_grpc.TargetServiceStub(channel) for channel in self._channels]
            self._route = Route(stubs, self._max_retries)
        return self._route.attempts(timeout_of(timeout, self._timeout_s))

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self._credentials:
            return grpc.aio.secure_channel(address, self._credentials, options=OPTIONS)
        return grpc.aio.insecure_channel(address, options=OPTIONS)

    def _open(
        self, call: Call, timeout: float | None, feed: StreamerFeed | None = None
    ) -> AsyncStream:
        stream = AsyncStream(
            Course(call, self._attempts(timeout), self._metadata, self._metrics, feed)
        )
        self._streams.add(stream)
        return stream

    async def _unary(self, method: str, request: Any, timeout: float | None) -> Any:
        attempts = self._attempts(timeout)
        while True:
            try:
                call = getattr(attempts.stub, method)
                return await call(request, timeout=attempts.left_s(), metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                pause_s = attempts.next_pause_s(error)
                if pause_s is None:
                    raise from_rpc(error) from error
            await asyncio.sleep(pause_s)
