"""TargetService on the wire: validates, starts the sequences of a call, streams what they make.

Knows nothing of decoding: it hands over to a strategy.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.branches import fits
from foredraft_serving.logs import serve_request
from foredraft_serving.messages import RULES
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.status import INVALID_ARGUMENT, PERMISSION_DENIED
from foredraft_serving.tracing import serve_span
from target_service.call_record import CallRecord
from target_service.drafting.draft_pool import DraftPool
from target_service.drafting.drafter import Drafters
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.output.stopping import Stopping
from target_service.output.stream import ChunkQueue, SequenceStream
from target_service.request.defaults import Config
from target_service.request.mode import Mode
from target_service.request.named_configs import SavingNotAllowedError, places
from target_service.request.parse import credential
from target_service.request.plan import Plan, Request, ServiceLimits
from target_service.request.planner import Planner, plan_request
from target_service.request.token_healing import TokenHealing
from target_service.settings import TargetSettings
from target_service.strategies.assisted import assisted
from target_service.strategies.beams import beams
from target_service.strategies.contrastive import contrastive
from target_service.watermark_detection import Detector

STATUS = {InvalidFieldError: INVALID_ARGUMENT, SavingNotAllowedError: PERMISSION_DENIED}


class TargetServicer(target_pb2_grpc.TargetServiceServicer):
    """Every exit of a call ends its sequences, which frees their rows here and on the drafts."""

    def __init__(
        self,
        settings: TargetSettings,
        model: LoadedModel,
        engine: Engine,
        defaults: Config,
        metrics: TargetMetrics,
    ) -> None:
        self._settings, self._model, self._engine, self._metrics = settings, model, engine, metrics
        self._defaults = defaults
        limits = ServiceLimits(
            engine.capacity,
            engine.pool.count,
            engine.rows.quantizes,
            partial(fits, engine),
            model.scored_ids,
        )
        saving = settings.save_generation_configs
        self._planner = Planner(model, defaults, limits, places(settings), saving)
        own = defaults.watermarking_config if defaults.HasField("watermarking_config") else None
        self._detector = Detector(self._planner.prompts, model.scored_ids, own)
        self._healing = TokenHealing(model.tokenizer, engine)
        self._configs = self._planner.configs
        self._drafts = DraftPool(settings.draft_addresses, model.vocabulary)
        metrics.watch_drafts(lambda: [draft.standing for draft in self._drafts.all])
        self._drafters = Drafters(settings, self._drafts, model.vocabulary.size, engine, metrics)

    async def Generate(
        self, request: target_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[target_pb2.GenerateResponse]:
        decode = self._model.tokenizer.decode if self._settings.log_texts else None
        request_id = request.request_id or secrets.token_hex(8)
        serve_request(request_id)
        span = serve_span("foredraft.target.Generate", context.invocation_metadata())
        with CallRecord(self._metrics, context.time_remaining(), decode, span) as record:
            caller = credential(context.invocation_metadata())
            call = await plan_request(self._planner, self._healing, request, caller)
            record.admitted(call.prompts)
            yield self._started(call, request_id, request.return_prompt_ids)
            chunk_queue = ChunkQueue()
            sequences = [asyncio.create_task(self._run(plan, chunk_queue)) for plan in call.plans]
            running = asyncio.gather(*sequences)
            try:
                async with aclosing(_chunks(chunk_queue, running)) as chunks:
                    async for chunk in chunks:
                        record.chunk(chunk)
                        yield target_pb2.GenerateResponse(chunk=chunk)
                summaries = [summary for of_plan in await running for summary in of_plan]
            finally:
                await _end(sequences, running)
            record.finished(summaries)
            yield target_pb2.GenerateResponse(finished=target_pb2.Finished(sequences=summaries))

    async def Tokenize(
        self, request: target_pb2.TokenizeRequest, context: Any
    ) -> target_pb2.TokenizeResponse:
        ids = await asyncio.to_thread(self._planner.prompts.ids, request.prompt)
        return target_pb2.TokenizeResponse(token_ids=generation_pb2.TokenIds(ids=ids))

    async def GetModelInfo(
        self, request: target_pb2.GetModelInfoRequest, context: Any
    ) -> target_pb2.GetModelInfoResponse:
        rows = self._engine.rows
        return target_pb2.GetModelInfoResponse(
            model=self._model.name,
            max_length=rows.capacity,
            vocabulary_size=self._model.vocabulary.size,
            rows=rows.count,
            row_layout=rows.layout,
            dtype=self._settings.dtype,
            device=str(rows.device),
            drafts={draft.address: draft.state for draft in self._drafts.all},
            generation_config=self._defaults,
        )

    async def ListGenerationConfigs(
        self, request: target_pb2.ListGenerationConfigsRequest, context: Any
    ) -> target_pb2.ListGenerationConfigsResponse:
        return target_pb2.ListGenerationConfigsResponse(
            names=await asyncio.to_thread(self._configs.names)
        )

    async def GetGenerationConfig(
        self, request: target_pb2.GetGenerationConfigRequest, context: Any
    ) -> target_pb2.GetGenerationConfigResponse:
        config = await asyncio.to_thread(self._configs.get, request.name)
        return target_pb2.GetGenerationConfigResponse(config=config)

    async def SaveGenerationConfig(
        self, request: target_pb2.SaveGenerationConfigRequest, context: Any
    ) -> target_pb2.SaveGenerationConfigResponse:
        await asyncio.to_thread(self._configs.save, request.name, request.config)
        return target_pb2.SaveGenerationConfigResponse()

    async def DetectWatermark(
        self, request: target_pb2.DetectWatermarkRequest, context: Any
    ) -> target_pb2.DetectWatermarkResponse:
        return await asyncio.to_thread(self._detector.detect, request)

    async def close(self) -> None:
        """Ends the connections to the drafts and the device thread."""
        await self._drafts.close()
        self._engine.close()

    async def _run(self, plan: Plan, chunk_queue: ChunkQueue) -> list[target_pb2.SequenceSummary]:
        outputs = [
            SequenceOutput(
                Stopping(plan, self._model.tokenizer),
                SequenceStream(plan.index + i, chunk_queue, self._metrics),
            )
            for i in range(plan.sequences)
        ]
        statistics = await self._strategy(plan, outputs)
        stats = statistics.message(plan.sampling.rule, self._drafters.unused_reason)
        return [output.ended(plan, stats) for output in outputs]

    async def _strategy(self, plan: Plan, outputs: Sequence[SequenceOutput]) -> SpeculationStats:
        engine, metrics = self._engine, self._metrics
        if plan.mode is Mode.CONTRASTIVE:
            return await contrastive(plan, engine, outputs[0], metrics)
        if plan.mode is not Mode.ASSISTED:
            return await beams(plan, engine, outputs, metrics)
        return await assisted(
            plan, engine, self._drafters, outputs[0].stopping, outputs[0].stream, metrics
        )

    def _started(
        self, call: Request, request_id: str, with_prompts: bool
    ) -> target_pb2.GenerateResponse:
        prompts = [generation_pb2.TokenIds(ids=ids) for ids in call.prompts] if with_prompts else []
        started = target_pb2.Started(
            request_id=request_id,
            seed=call.seed,
            sampling_rule=RULES[call.rule],
            prompt_ids=prompts,
            num_sequences=sum(plan.sequences for plan in call.plans),
        )
        return target_pb2.GenerateResponse(started=started)


async def _chunks(
    chunk_queue: ChunkQueue, running: "asyncio.Future[Any]"
) -> AsyncGenerator[target_pb2.Chunk, None]:
    """Chunks until all sequences have ended and everything is read;

    raises what a sequence raised.
    """
    while not (running.done() and chunk_queue.empty):
        getting = asyncio.ensure_future(chunk_queue.get())
        try:
            await asyncio.wait({getting, running}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
            elif running.exception():
                return
        finally:
            getting.cancel()


async def _end(sequences: Sequence["asyncio.Task[Any]"], running: "asyncio.Future[Any]") -> None:
    """Ends what still runs, also where one sequence failed and the others did not, and waits for
    all.
    """
    for sequence in sequences:
        sequence.cancel()
    await asyncio.wait([*sequences, running])
    if not running.cancelled():
        running.exception()  # looked at: whoever awaits `running` has raised it already
