"""The RPCs of `TargetService`.

This module knows nothing of decoding: `target_service.generation` runs what a request asks for.
"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Any

from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.branches import fits
from foredraft_serving.access.account import account
from foredraft_serving.access.quotas import Quotas
from foredraft_serving.grammars import Grammars
from foredraft_serving.intake import received_bytes
from foredraft_serving.logs import is_request_id, serve_request
from foredraft_serving.messages import RULES
from foredraft_serving.metrics import TargetMetrics
from foredraft_serving.overload import UnreadError
from foredraft_serving.refusals import Refusals
from foredraft_serving.tracing import serve_span
from foredraft_serving.worker_pool import WorkerPool
from target_service.admission import Admission
from target_service.call_record import CallRecord
from target_service.drafting.draft_channel import draft_credentials
from target_service.drafting.draft_pool import DraftPool
from target_service.drafting.draft_times import numbers_of_outcomes
from target_service.drafting.drafters import Drafters
from target_service.generation import generation
from target_service.output.token_forms import TokenForms
from target_service.request.defaults import Config
from target_service.request.identity import Identity, identify
from target_service.request.maxima import Maxima
from target_service.request.named_configs import places
from target_service.request.plan import Request, ServiceLimits
from target_service.request.planner import Planner, plan_request
from target_service.request.token_healing import TokenHealing
from target_service.running_calls import RunningCalls
from target_service.settings import TargetSettings
from target_service.strategies.resources import Resources
from target_service.watermark_detection import Detector

# Requests of more bytes are planned by a thread of their own: it takes seconds to tokenize millions
# of characters, for which nobody else is to wait.
_LARGE_BYTES = 64 << 10
# The largest number of calls that wait for a thread of detection, or of named configs.
_MAX_WAITING = 64


class TargetServicer(target_pb2_grpc.TargetServiceServicer):
    """Serves one model.

    Every exit of a call ends its sequences, which frees their rows here and on the draft services.
    """

    def __init__(
        self,
        settings: TargetSettings,
        model: LoadedModel,
        engine: Engine,
        defaults: Config,
        metrics: TargetMetrics,
    ) -> None:
        self._settings, self._model = settings, model
        self.engine, self.metrics, self.defaults = engine, metrics, defaults
        limits = ServiceLimits(
            engine.capacity,
            engine.pool.count,
            engine.rows.quantizes,
            partial(fits, engine),
            model_ids=model.scored_ids,
            maxima=Maxima.of(settings),
        )
        saving = settings.save_generation_configs
        self._planner = Planner(
            model, defaults, limits, places(settings), saving, settings.sanitize_control_tokens
        )
        own = defaults.watermarking_config if defaults.HasField("watermarking_config") else None
        self._detector = Detector(self._planner.prompts, model.scored_ids, own)
        self._healing = TokenHealing(model.tokenizer, engine)
        self._forms = TokenForms(model.tokenizer)
        self._configs = self._planner.configs
        numbers = numbers_of_outcomes(settings.outcomes, settings.choose_outcomes)
        self._pool = DraftPool(
            settings.draft_addresses, model.vocabulary, numbers, draft_credentials(settings)
        )
        metrics.watch_drafts(lambda: [endpoint.state for endpoint in self._pool.endpoints])
        drafters = Drafters(settings, self._pool, engine, metrics)
        refused = Refusals(metrics.observe_refusal)
        self._quotas = Quotas(refused)
        self._admission = Admission(settings, engine.pool.count, refused)
        metrics.watch_waiting(lambda: self._admission.waiting)
        self._planning = WorkerPool("planning", 2, settings.max_waiting, refused)
        self._planning_large = WorkerPool("planning", 1, settings.max_waiting, refused)
        self._detecting = WorkerPool("detection", 1, _MAX_WAITING, refused)
        self._config_files = WorkerPool("configs", 1, _MAX_WAITING, refused)
        compiler = GrammarCompiler(model.tokenizer)
        self._grammars = Grammars(compiler.compile, refused, metrics.observe_grammar)
        self._resources = Resources(engine, drafters, metrics)
        self.running = RunningCalls()
        """The calls that run, by their names."""

    async def Generate(
        self, request: target_pb2.GenerateRequest, context: Any
    ) -> AsyncGenerator[target_pb2.GenerateResponse, None]:
        tokenizer = self._model.tokenizer
        named = request.request_id if is_request_id(request.request_id) else ""
        request_id = named or secrets.token_hex(8)  # parsing refuses a name that is none
        serve_request(request_id)
        left_s = context.time_remaining()
        identity, payer = self.caller(context), account()
        # More than fits is refused by planning, which names the field.
        new_tokens = min(request.config.max_new_tokens, self.engine.capacity)
        with ExitStack() as entered:
            # Who is refused here costs next to nothing: there is no record and no span.
            quota = entered.enter_context(self._quotas.enter(payer))
            door = self._admission.enter(received_bytes(), identity.owner, left_s, new_tokens)
            ticket = entered.enter_context(door)
            decode = tokenizer.decode if self._settings.log_texts else None
            span = serve_span("foredraft.target.Generate", context.invocation_metadata())
            record = entered.enter_context(CallRecord(self.metrics, left_s, decode, span))
            aborted = entered.enter_context(self.running.enter(identity.owner, request_id))
            threads = self._threads()
            lent = self._planner, self._healing, self._grammars
            call = await plan_request(*lent, threads, request, identity)
            call = self._resources.drafters.with_rule(call)
            quota.hold(call.sequences, ("num_return_sequences", "prompts"))
            ticket.admit(call.plans)
            quota.use(sum(map(len, call.prompts)))
            record.admitted(call.prompts)
            yield _started(call, request_id, request.return_prompt_ids)
            how = self._resources, self._forms, ticket, quota.use, aborted
            async with generation(call.plans, *how) as running:
                async with aclosing(running.chunks()) as chunks:
                    async for chunk in chunks:
                        record.chunk(chunk)
                        try:
                            yield target_pb2.GenerateResponse(chunk=chunk)
                        except UnreadError as error:
                            raise running.unread(error) from None
                try:
                    summaries = await running.summaries()
                except UnreadError as error:
                    raise running.unread(error) from None
            record.finished(summaries)
            yield target_pb2.GenerateResponse(finished=target_pb2.Finished(sequences=summaries))

    async def Tokenize(
        self, request: target_pb2.TokenizeRequest, context: Any
    ) -> target_pb2.TokenizeResponse:
        prompts = self._planner.prompts

        def ids(prompt: generation_pb2.Prompt) -> generation_pb2.TokenIds:
            return generation_pb2.TokenIds(ids=prompts.ids(prompt))

        threads = self._threads()
        if not request.prompts:
            return target_pb2.TokenizeResponse(token_ids=await threads.run(ids, request.prompt))
        batch = await threads.run(lambda: [ids(prompt) for prompt in request.prompts])
        return target_pb2.TokenizeResponse(batch=batch)

    async def Detokenize(
        self, request: target_pb2.DetokenizeRequest, context: Any
    ) -> target_pb2.DetokenizeResponse:
        texts = await self._threads().run(
            self._planner.prompts.texts, request.token_ids, request.skip_special_tokens
        )
        return target_pb2.DetokenizeResponse(texts=texts)

    def caller(self, context: Any) -> Identity:
        """Returns who makes a call."""
        headers, certificate = context.invocation_metadata(), context.auth_context()
        return identify(headers, certificate, self._settings.share_anonymous, account())

    async def prompt_ids(self, prompt: generation_pb2.Prompt, field: str) -> tuple[int, ...]:
        """Returns the token ids of a prompt; `field` is what its refusal names."""
        return await self._threads().run(self._planner.prompts.ids, prompt, field)

    def _threads(self) -> WorkerPool:
        """Returns the threads for the request that is being read."""
        return self._planning_large if received_bytes() > _LARGE_BYTES else self._planning

    async def GetModelInfo(
        self, request: target_pb2.GetModelInfoRequest, context: Any
    ) -> target_pb2.GetModelInfoResponse:
        rows = self.engine.rows
        return target_pb2.GetModelInfoResponse(
            model=self._model.name,
            max_length=rows.capacity,
            vocabulary_size=self._model.known_ids,
            rows=rows.count,
            row_layout=rows.layout,
            dtype=self._model.dtype,
            device=str(rows.device),
            drafts={e.address: e.description for e in self._pool.endpoints},
            generation_config=self.defaults,
        )

    async def ListGenerationConfigs(
        self, request: target_pb2.ListGenerationConfigsRequest, context: Any
    ) -> target_pb2.ListGenerationConfigsResponse:
        return target_pb2.ListGenerationConfigsResponse(
            names=await self._config_files.run(self._configs.names)
        )

    async def GetGenerationConfig(
        self, request: target_pb2.GetGenerationConfigRequest, context: Any
    ) -> target_pb2.GetGenerationConfigResponse:
        config = await self._config_files.run(self._configs.get, request.name)
        return target_pb2.GetGenerationConfigResponse(config=config)

    async def SaveGenerationConfig(
        self, request: target_pb2.SaveGenerationConfigRequest, context: Any
    ) -> target_pb2.SaveGenerationConfigResponse:
        await self._config_files.run(self._configs.save, request.name, request.config)
        return target_pb2.SaveGenerationConfigResponse()

    async def DetectWatermark(
        self, request: target_pb2.DetectWatermarkRequest, context: Any
    ) -> target_pb2.DetectWatermarkResponse:
        return await self._detecting.run(self._detector.detect, request)

    async def look_for_drafts(self) -> None:
        """Logs which draft services cannot be reached, which nobody else notices without calls."""
        await self._pool.look()

    async def close(self) -> None:
        """Closes the connections to the draft services and ends the device thread."""
        pools = (
            *(self._planning, self._planning_large, self._grammars),
            *(self._detecting, self._config_files),
        )
        for threads in pools:
            threads.close()
        await self._pool.close()
        self.engine.close()


def _started(call: Request, request_id: str, with_prompts: bool) -> target_pb2.GenerateResponse:
    prompts = [generation_pb2.TokenIds(ids=ids) for ids in call.prompts] if with_prompts else []
    started = target_pb2.Started(
        request_id=request_id,
        seed=call.seed,
        sampling_rule=RULES[call.rule],
        prompt_ids=prompts,
        num_sequences=call.sequences,
    )
    return target_pb2.GenerateResponse(started=started)
