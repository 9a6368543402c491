"""What the asynchronous client asks a service in one message, and its connections.

This module knows nothing of generation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack, overload

import grpc
from prometheus_client import CollectorRegistry

from foredraft._channel import (
    Attempts,
    addresses_of,
    metadata_of,
    retries_of,
    timeout_of,
)
from foredraft._connections import AsyncConnections, async_sleep
from foredraft._detection import DetectionOptions, Watermark, detection_request, detections_from
from foredraft._errors import ForedraftError, from_rpc
from foredraft._generation_config import GenerationConfig, GenerationFields
from foredraft._inputs import Array, Config, Prompt, PromptBatch
from foredraft._prompts import prompt_message
from foredraft._results import info_from
from foredraft._types import ModelInfo, WatermarkDetection
from foredraft.metrics import for_registry
from foredraft.v1 import target_pb2
from foredraft.wire.config import config_from, config_message
from foredraft.wire.limits import DEFAULT_TIMEOUT_S


class AsyncService:
    """The connections to a target service, and the calls that take one message and return one."""

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
        """Makes a client, which connects at its first call.

        Args:
            address: host:port, or a list of them: each call begins with the next address, and each
                retry goes on to the next.
            timeout: the number of seconds for a call, retries included; None is no limit.
            max_retries: the number of further attempts if the service cannot be reached and nothing
                of the answer came. A call with `resume` counts those since something came last.
            metadata: headers of every call, such as {"authorization": "Bearer ..."}.
            credentials: gRPC's credentials for TLS; None is plain text.
            registry: the registry of prometheus_client for the client's metrics; None is the global
                one.

        Raises:
            InvalidRequestError: an argument makes no sense; it is named.
        """
        self._connections = AsyncConnections(
            addresses_of(address), credentials, retries_of(max_retries)
        )
        self._timeout_s, self._metadata = timeout_of(timeout, None), metadata_of(metadata)
        self._metrics = for_registry(registry)
        self._closed = False

    async def tokenize(self, inputs: Prompt | Array, *, timeout: float | None = None) -> list[int]:
        """Returns the token ids of a prompt, as generation would use them.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.TokenizeRequest(prompt=prompt_message(inputs))
        answer = await self._unary("Tokenize", request, timeout)
        return list(answer.token_ids.ids)

    @overload
    async def detect_watermark(
        self,
        inputs: Prompt,
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> WatermarkDetection: ...
    @overload
    async def detect_watermark(
        self,
        inputs: PromptBatch,
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> list[WatermarkDetection]: ...
    @overload
    async def detect_watermark(
        self,
        inputs: Array,
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> WatermarkDetection | list[WatermarkDetection]: ...
    async def detect_watermark(
        self,
        inputs: Prompt | PromptBatch | Array,
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> WatermarkDetection | list[WatermarkDetection]:
        """Returns whether a text bears a watermark; for a batch, a list.

        Args:
            inputs: generated texts, without their prompts, in the forms that `generate` takes.
            watermarking_config: the watermark, as transformers' object or its dictionary; by
                default that of the model's own config.
            options: what `DetectionOptions` lists.

        Raises:
            InvalidRequestError: an argument cannot be honoured; it is named.
            ForedraftError: the call failed.
        """
        request, is_batch = detection_request(inputs, watermarking_config, options)
        answer = await self._unary("DetectWatermark", request, options.get("timeout"))
        return detections_from(answer, is_batch)

    async def info(self, *, timeout: float | None = None) -> ModelInfo:
        """Returns what generates behind the address.

        Raises:
            ForedraftError: the call failed.
        """
        return info_from(
            await self._unary("GetModelInfo", target_pb2.GetModelInfoRequest(), timeout)
        )

    async def generation_config(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> GenerationConfig:
        """Returns what a named config sets; without a name, what the model's own config sets.

        Raises:
            InvalidRequestError: there is no config of this name, or it cannot be used.
            ForedraftError: the call failed.
        """
        if name is None:
            model = await self.info(timeout=timeout)
            return model.generation_config
        request = target_pb2.GetGenerationConfigRequest(name=name)
        answer = await self._unary("GetGenerationConfig", request, timeout)
        return config_from(answer.config)

    async def generation_configs(self, *, timeout: float | None = None) -> list[str]:
        """Returns the names of the model's configs, for `generation_config` of a call.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.ListGenerationConfigsRequest()
        answer = await self._unary("ListGenerationConfigs", request, timeout)
        return list(answer.names)

    async def save_generation_config(
        self,
        name: str,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int | None = None,
        timeout: float | None = None,
        **fields: Unpack[GenerationFields],
    ) -> None:
        """Keeps a config with the model, in place of one of the same name.

        Raises:
            InvalidRequestError: the name is none, or no call could be made with the config.
            PermissionDeniedError: the operator does not allow it.
            ForedraftError: the call failed.
        """
        values = {"num_return_sequences": num_return_sequences, **fields}
        config = config_message(generation_config, values)
        request = target_pb2.SaveGenerationConfigRequest(name=name, config=config)
        await self._unary("SaveGenerationConfig", request, timeout)

    async def close(self) -> None:
        """Closes the connections; generations in progress end with RequestCancelledError."""
        self._closed = True
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _attempts(self, timeout: float | None) -> Attempts:
        if self._closed:
            raise ForedraftError("the client is closed")
        return self._connections.attempts(timeout_of(timeout, self._timeout_s))

    async def _unary(self, method: str, request: Any, timeout: float | None) -> Any:
        attempts = self._attempts(timeout)
        while True:
            try:
                call = getattr(attempts.stub, method)
                return await call(request, timeout=attempts.left_s(), metadata=self._metadata)
            except grpc.RpcError as error:
                pause_s = attempts.next_pause_s(error)
                if pause_s is None:
                    raise from_rpc(error) from error
            await async_sleep(pause_s)
