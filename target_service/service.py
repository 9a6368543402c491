"""TargetService on the wire: validates, starts the sequences of a call, streams what they make.

Knows nothing of decoding: it hands over to a strategy.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from decoding.engine import Engine
from decoding.errors import InvalidFieldError
from decoding.loading import LoadedModel
from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc
from serving.logs import serve_request
from serving.messages import RULES
from serving.metrics import TargetMetrics
from target_service.account import Account
from target_service.config import TargetSettings
from target_service.defaults import Config
from target_service.drafter import Drafters
from target_service.drafts import Drafts
from target_service.plan import Plan, Planner, Request, credential
from target_service.statistics import Statistics
from target_service.stopping import Stopping
from target_service.strategies.assisted import assisted
from target_service.stream import REASONS, Outbox, SequenceStream


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
        self._planner = Planner(model, defaults, engine.capacity, engine.rows.quantizes)
        self._drafts = Drafts(settings.draft_addresses, model.vocabulary)
        self._drafters = Drafters(settings, self._drafts, model.vocabulary.size, engine, metrics)

    async def Generate(
        self, request: target_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[target_pb2.GenerateResponse]:
        decode = self._model.tokenizer.decode if self._settings.log_texts else None
        request_id = request.request_id or secrets.token_hex(8)
        serve_request(request_id)
        with Account(self._metrics, context.time_remaining, decode) as account:
            # In a thread: to take a long prompt apart takes a while, and others are being streamed to.
            call = await asyncio.to_thread(self._planner.request, request, credential(context.invocation_metadata()))
            account.admitted(call.prompts)
            yield self._started(call, request_id, request.return_prompt_ids)
            outbox = Outbox()
            sequences = [asyncio.create_task(self._run(plan, outbox)) for plan in call.plans]
            running = asyncio.gather(*sequences)
            try:
                async with aclosing(_chunks(outbox, running)) as chunks:
                    async for chunk in chunks:
                        account.chunk(chunk)
                        yield target_pb2.GenerateResponse(chunk=chunk)
                summaries = await running
            finally:
                await _end(sequences, running)
            account.finished(summaries)
            yield target_pb2.GenerateResponse(finished=target_pb2.Finished(sequences=summaries))

    async def Tokenize(self, request: target_pb2.TokenizeRequest, context: Any) -> target_pb2.TokenizeResponse:
        ids = await asyncio.to_thread(self._planner.prompt_ids, request.prompt)
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
        raise InvalidFieldError("message", "named configs are not served yet")

    async def GetGenerationConfig(
        self, request: target_pb2.GetGenerationConfigRequest, context: Any
    ) -> target_pb2.GetGenerationConfigResponse:
        raise InvalidFieldError("message", "named configs are not served yet")

    async def SaveGenerationConfig(
        self, request: target_pb2.SaveGenerationConfigRequest, context: Any
    ) -> target_pb2.SaveGenerationConfigResponse:
        raise InvalidFieldError("message", "named configs are not served yet")

    async def DetectWatermark(
        self, request: target_pb2.DetectWatermarkRequest, context: Any
    ) -> target_pb2.DetectWatermarkResponse:
        raise InvalidFieldError("message", "watermarks are not detected yet")

    async def close(self) -> None:
        """Ends the connections to the drafts and the device thread."""
        await self._drafts.close()
        self._engine.close()

    async def _run(self, plan: Plan, outbox: Outbox) -> target_pb2.SequenceSummary:
        stream = SequenceStream(plan.index, outbox, self._metrics)
        stopping = Stopping(plan, self._model.tokenizer)
        statistics: Statistics = await assisted(plan, self._engine, self._drafters, stopping, stream, self._metrics)
        stream.end(stopping.reason)
        return target_pb2.SequenceSummary(
            sequence_index=plan.index,
            finish_reason=REASONS[stopping.reason],
            prompt_tokens=plan.sampling.prompt_length,
            generated_tokens=stream.generated,
            stats=statistics.message(plan.sampling.rule, self._drafters.unused_reason),
        )

    def _started(self, call: Request, request_id: str, with_prompts: bool) -> target_pb2.GenerateResponse:
        prompts = [generation_pb2.TokenIds(ids=ids) for ids in call.prompts] if with_prompts else []
        started = target_pb2.Started(
            request_id=request_id, seed=call.seed, sampling_rule=RULES[call.rule], prompt_ids=prompts
        )
        return target_pb2.GenerateResponse(started=started)


async def _chunks(outbox: Outbox, running: "asyncio.Future[Any]") -> AsyncGenerator[target_pb2.Chunk, None]:
    """Chunks until all sequences have ended and everything is read; raises what a sequence raised."""
    while not (running.done() and outbox.empty):
        getting = asyncio.ensure_future(outbox.get())
        try:
            await asyncio.wait({getting, running}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
            elif running.exception():
                return
        finally:
            getting.cancel()


async def _end(sequences: Sequence["asyncio.Task[Any]"], running: "asyncio.Future[Any]") -> None:
    """Ends what still runs, also where one sequence failed and the others did not, and waits for all."""
    for sequence in sequences:
        sequence.cancel()
    await asyncio.wait([*sequences, running])
    if not running.cancelled():
        running.exception()  # looked at: whoever awaits `running` has raised it already
