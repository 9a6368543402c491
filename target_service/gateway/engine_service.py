"""The RPCs of `vllm.grpc.engine.VllmEngine`.

Generations go to the hub, which serves them as its own: they are admitted, counted, limited and
drained in the same way. This module knows nothing of decoding.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from smg_grpc_proto.generated import common_pb2, vllm_engine_pb2_grpc
from smg_grpc_proto.generated import vllm_engine_pb2 as pb

from foredraft import __version__
from foredraft.v1 import generation_pb2, target_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.model.loading import LoadedModel
from foredraft_serving.access.account import account
from foredraft_serving.logs import is_request_id
from foredraft_serving.overload import NotServedError
from target_service.gateway.answers import Answers
from target_service.gateway.load import LoadMeter
from target_service.gateway.tokenizer_files import TokenizerFiles
from target_service.gateway.translation import (
    WorkerLimits,
    check_served,
    in_their_words,
    translated,
    truncated,
)
from target_service.running_calls import AbortedError
from target_service.service import TargetServicer

_CHUNK_BYTES = 64 << 10  # of an archive in one message
_LOOK_S, _HEARTBEAT_S = 0.1, 1.0  # at the load, and the longest time without a record
_MOST_ABORTED = 1024
# What a gateway fills in for callers that say nothing.
_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class EngineServicer(vllm_engine_pb2_grpc.VllmEngineServicer):  # type: ignore[misc]
    """Serves the model of a hub to gateways."""

    def __init__(self, hub: TargetServicer, model: LoadedModel) -> None:
        self._hub, self._model = hub, model
        self._defaults = hub.defaults
        self._load = LoadMeter(hub.engine, hub.metrics)
        self._files = TokenizerFiles(model)
        self._began, self._last_request = time.monotonic(), 0.0

    async def Generate(
        self, request: pb.GenerateRequest, context: Any
    ) -> AsyncIterator[pb.GenerateResponse]:
        self._last_request = time.time()
        try:
            ids, asked = await self._translated(request)
            params = request.sampling_params
            answers = Answers(request, ids, params.stop_token_ids)
            async with aclosing(self._hub.Generate(asked, context)) as messages:
                try:
                    async for message in messages:
                        for answer in answers.of(message):
                            yield answer
                except AbortedError:
                    for answer in answers.aborted():
                        yield answer
        except InvalidFieldError as error:
            raise in_their_words(error) from error

    async def _translated(
        self, request: pb.GenerateRequest
    ) -> tuple[tuple[int, ...], target_pb2.GenerateRequest]:
        """Returns the prompt and what the hub is asked.

        Raises:
            InvalidFieldError: the request cannot be honoured.
        """
        limits = WorkerLimits(
            self._hub.engine.capacity,
            account().limits.max_new_tokens,
            tuple(self._defaults.eos_token_id.ids),
            self._model.scored_ids,
        )
        try:
            check_served(request)
            prompt = generation_pb2.Prompt(text=request.text)
            if request.HasField("tokenized"):
                given = truncated(request, tuple(request.tokenized.input_ids), limits)
                prompt = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=given))
            ids = await self._hub.prompt_ids(prompt, "input")
            ids = truncated(request, ids, limits)
            return ids, translated(request, ids, limits)
        except InvalidFieldError:
            self._hub.metrics.failures.labels("invalid").inc()
            raise

    async def Abort(self, request: pb.AbortRequest, context: Any) -> pb.AbortResponse:
        if len(request.request_ids) > _MOST_ABORTED:
            reason = f"has {len(request.request_ids)} names; it takes up to {_MOST_ABORTED}"
            raise InvalidFieldError("request_ids", reason)
        owner = self._hub.caller(context).owner
        for request_id in filter(is_request_id, request.request_ids):
            self._hub.running.abort(owner, request_id)
        return pb.AbortResponse()

    async def HealthCheck(
        self, request: pb.HealthCheckRequest, context: Any
    ) -> pb.HealthCheckResponse:
        return pb.HealthCheckResponse(healthy=True)

    async def GetModelInfo(
        self, request: pb.GetModelInfoRequest, context: Any
    ) -> pb.GetModelInfoResponse:
        config, own = getattr(self._model.module, "config", None), self._defaults
        told = {name: getattr(own, name) for name in _DEFAULTS if own.HasField(name)}
        return pb.GetModelInfoResponse(
            model_path=self._model.name,
            is_generation=True,
            max_context_length=self._hub.engine.capacity,
            vocab_size=self._model.scored_ids,
            served_model_name=self._model.name,
            tokenizer_path=self._model.name,
            model_type=getattr(config, "model_type", ""),
            architectures=getattr(config, "architectures", None) or [],
            eos_token_ids=list(own.eos_token_id.ids),
            pad_token_id=own.pad_token_id,
            bos_token_id=own.bos_token_id,
            max_req_input_len=self._hub.engine.capacity - 1,
            default_sampling_params_json=json.dumps(told) if told else "",
        )

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: Any
    ) -> pb.GetServerInfoResponse:
        return pb.GetServerInfoResponse(
            active_requests=self._hub.engine.pool.in_use,
            last_receive_timestamp=self._last_request,
            uptime_seconds=time.monotonic() - self._began,
            server_type="vllm-grpc",
            data_parallel_size=1,
            model_dtype=f"torch.{self._model.dtype}",
            max_num_seqs=self._hub.engine.pool.count,
        )

    async def GetLoads(self, request: pb.GetLoadsRequest, context: Any) -> pb.GetLoadsResponse:
        if request.dp_rank:
            raise InvalidFieldError("dp_rank", "there is one rank here, which is 0")
        return pb.GetLoadsResponse(
            timestamp=datetime.now(UTC).isoformat(),
            version=__version__,
            dp_rank_count=1,
            loads=[self._load.scheduler_load()],
        )

    async def GetTokenizer(
        self, request: common_pb2.GetTokenizerRequest, context: Any
    ) -> AsyncIterator[common_pb2.GetTokenizerChunk]:
        archive = await self._files.archive()
        for at in range(0, len(archive.data), _CHUNK_BYTES):
            piece = archive.data[at : at + _CHUNK_BYTES]
            last = at + _CHUNK_BYTES >= len(archive.data)
            yield common_pb2.GetTokenizerChunk(data=piece, sha256=archive.sha256 if last else "")

    async def SubscribeKvEvents(
        self, request: common_pb2.SubscribeKvEventsRequest, context: Any
    ) -> AsyncIterator[common_pb2.KvEventBatch]:
        """Tells the load whenever it changes. There are no events of blocks: rows are not shared
        among calls by their content.
        """
        last, told_at, sample = common_pb2.EngineLoad(), 0.0, 0
        while True:
            load = self._load.engine_load()
            now = time.monotonic()
            changed = (load.running_requests, load.waiting_requests) != (
                last.running_requests,
                last.waiting_requests,
            )
            if request.load_records_before_first_batch and (
                changed or now - told_at >= _HEARTBEAT_S
            ):
                last, told_at, sample = load, now, sample + 1
                load.sample = sample
                yield common_pb2.KvEventBatch(timestamp=time.time(), dp_rank=0, load=load)
            await asyncio.sleep(_LOOK_S)

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        raise NotServedError("Embed: this service generates text, and makes no embeddings")

    async def FlushCache(
        self, request: common_pb2.FlushCacheRequest, context: Any
    ) -> common_pb2.FlushCacheResponse:
        raise NotServedError("FlushCache: rows keep their tokens until others take them")

    async def StartProfile(
        self, request: common_pb2.StartProfileRequest, context: Any
    ) -> common_pb2.ProfileResponse:
        raise NotServedError("StartProfile: this service has no profiler; its metrics tell of time")

    async def StopProfile(
        self, request: common_pb2.StopProfileRequest, context: Any
    ) -> common_pb2.ProfileResponse:
        raise NotServedError("StopProfile: this service has no profiler; its metrics tell of time")
