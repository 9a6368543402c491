"""The blocking client. Its asynchronous twin, `_async_client`, differs by `await` alone.

Knows nothing of how requests are built, results folded and attempts counted: `_messages`, `_course`
and `_channel` do that for the two.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

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
from foredraft._stream import Stream
from foredraft._streamers import StreamerFeed
from foredraft._types import ModelInfo
from foredraft.metrics import for_registry
from foredraft.v1 import target_pb2, target_pb2_grpc
from foredraft.wire.config import config_from, config_message


class Client:
    """A connection to one target service, or to several that serve the same model. Threads may
    share it.

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
        """Connects at the first call.

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
        self._timeout_s, self._metadata = timeout_of(timeout, None), metadata_of(metadata)
        self._metrics = for_registry(registry)
        self._channels = [
            grpc.secure_channel(a, credentials, OPTIONS)
            if credentials
            else grpc.insecure_channel(a, OPTIONS)
            for a in addresses_of(address)
        ]
        stubs = [target_pb2_grpc.TargetServiceStub(channel) for channel in self._channels]
        self._route = Route(stubs, retries_of(max_retries))
        self._closed = False

    def generate(
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
        """Generates, and returns the Result; for a batch or several sequences a list, prompt by
        prompt.

        Args:
            inputs: text, token ids, or chat messages ({"role", "content"}); a list of those is a
                batch. Ids may be a tensor or an array, of which two dimensions are a batch, without
                padding.
            generation_config: a GenerationConfig, foredraft's or transformers', or the name of one
            of the model's.
            streamer: a transformers streamer, for one sequence.
            seed: makes sampling repeatable; drawn by the service, and told in `stats`, when left
            out.
            sampling_rule: "rejection" or "coupled"; by default coupled with a seed, rejection
            without.
            logprobs: return log-probabilities, of each token and of this many most likely ones (0:
            none).
            timeout: seconds, instead of the client's; past them the call ends with
            DeadlineExceededError.
            generated_ids: tokens that an earlier call generated, to go on from; for a batch, a list
            of lists.
            negative_prompt: what `guidance_scale` goes away from; for a batch, one for each prompt.
            stopping_criteria: transformers' objects, or functions of (input_ids [1, length], None),
                asked here about every token; with the one that meets any, the sequence ends, and
                with the last sequence the call.
            kwargs: fields of GenerationConfig, over those of `generation_config`.

        Raises:
            InvalidRequestError: a parameter that cannot be honoured; it is named.
            ForedraftError: the call failed; `partial` holds what came before.
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
            with self._open(call, timeout, feed) as stream:
                for _ in stream:
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
    ) -> Stream:
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

    def tokenize(self, inputs: Any, *, timeout: float | None = None) -> list[int]:
        """Token ids of a text or a conversation, as generation would use them. timeout: seconds.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.TokenizeRequest(prompt=prompt_message(inputs))
        return list(self._unary("Tokenize", request, timeout).token_ids.ids)

    def detect_watermark(
        self,
        inputs: Any,
        watermarking_config: Any = None,
        *,
        z_threshold: float | None = None,
        ignore_repeated_ngrams: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Whether texts bear a watermark; for a batch a list. timeout: seconds.

        Args:
            inputs: as in `generate`; what was generated, without its prompt.
            watermarking_config: transformers' object, or its dictionary; by default the model's
            own.
            z_threshold: green lists: the z-score above which a text is taken for marked; by default
            3.
            ignore_repeated_ngrams: green lists: count every n-gram once.

        Raises:
            ForedraftError: the call failed.
        """
        request, is_batch = detection_request(
            inputs, watermarking_config, z_threshold, ignore_repeated_ngrams
        )
        return detections_from(self._unary("DetectWatermark", request, timeout), is_batch)

    def info(self, *, timeout: float | None = None) -> ModelInfo:
        """What generates behind the address. timeout: seconds.

        Raises:
            ForedraftError: the call failed.
        """
        return info_from(self._unary("GetModelInfo", target_pb2.GetModelInfoRequest(), timeout))

    def generation_config(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> GenerationConfig:
        """What the model's own generation config sets, or a named one of the model. timeout:
        seconds.

        Raises:
            InvalidRequestError: there is none of this name, or it cannot be used.
            ForedraftError: the call failed.
        """
        if name is None:
            return (self.info(timeout=timeout)).generation_config
        request = target_pb2.GetGenerationConfigRequest(name=name)
        return config_from((self._unary("GetGenerationConfig", request, timeout)).config)

    def generation_configs(self, *, timeout: float | None = None) -> list[str]:
        """Names of the model's generation configs, for `generation_config` of a call. timeout:
        seconds.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.ListGenerationConfigsRequest()
        return list((self._unary("ListGenerationConfigs", request, timeout)).names)

    def save_generation_config(
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
        self._unary("SaveGenerationConfig", request, timeout)

    def close(self) -> None:
        """Closes the connections; generations in progress end with RequestCancelledError."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempts(self, timeout: float | None) -> Attempts:
        if self._closed:
            raise ForedraftError("the client is closed")
        return self._route.attempts(timeout_of(timeout, self._timeout_s))

    def _open(self, call: Call, timeout: float | None, feed: StreamerFeed | None = None) -> Stream:
        return Stream(Course(call, self._attempts(timeout), self._metadata, self._metrics, feed))

    def _unary(self, method: str, request: Any, timeout: float | None) -> Any:
        attempts = self._attempts(timeout)
        while True:
            try:
                call = getattr(attempts.stub, method)
                return call(request, timeout=attempts.left_s(), metadata=self._metadata)
            except grpc.RpcError as error:
                pause_s = attempts.next_pause_s(error)
                if pause_s is None:
                    raise from_rpc(error) from error
            time.sleep(pause_s)
