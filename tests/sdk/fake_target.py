"""A target service that answers by a script: real gRPC on loopback, no model behind it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc

PROMPT_IDS, SEED = (5, 6, 7), 42
_TARGET, _DRAFT_MODEL = target_pb2.TOKEN_ORIGIN_TARGET, target_pb2.TOKEN_ORIGIN_DRAFT_MODEL
Script = Callable[[target_pb2.GenerateRequest, Any], Iterator[target_pb2.GenerateResponse]]


def started(request: target_pb2.GenerateRequest) -> target_pb2.GenerateResponse:
    """Returns the first message; every prompt has the same ids."""
    ids = (
        [generation_pb2.TokenIds(ids=PROMPT_IDS) for _ in request.prompts]
        if request.return_prompt_ids
        else []
    )
    return target_pb2.GenerateResponse(
        started=target_pb2.Started(
            request_id=request.request_id or "drawn",
            seed=request.seed if request.HasField("seed") else SEED,
            sampling_rule=request.sampling_rule,
            prompt_ids=ids,
            num_sequences=len(request.prompts) * (request.config.num_return_sequences or 1),
        )
    )


def chunk(
    index: int, ids: tuple[int, ...], reason: Any = None, **fields: Any
) -> target_pb2.GenerateResponse:
    """Returns a chunk of tokens; the text of id 3 is "t3 "."""
    text = "".join(f"t{i} " for i in ids)
    return target_pb2.GenerateResponse(
        chunk=target_pb2.Chunk(
            sequence_index=index, token_ids=ids, text=text, finish_reason=reason, **fields
        )
    )


def finished(sequences: int) -> target_pb2.GenerateResponse:
    """Returns the last message."""
    stats = target_pb2.SpeculationStats(
        rounds=2,
        proposed=4,
        accepted=3,
        acceptance_histogram=[0, 1, 1],
        drafter="model",
        fallbacks={"late": 1},
        waited_s=0.25,
        hidden_s=0.75,
    )
    entries = [
        target_pb2.SequenceSummary(
            sequence_index=i,
            finish_reason=target_pb2.FINISH_REASON_LENGTH,
            prompt_tokens=3,
            stats=stats,
        )
        for i in range(sequences)
    ]
    return target_pb2.GenerateResponse(finished=target_pb2.Finished(sequences=entries))


def answer(
    request: target_pb2.GenerateRequest, context: Any
) -> Iterator[target_pb2.GenerateResponse]:
    """Sends two chunks for each sequence; sequence i says 10 i + 1 to 10 i + 5."""
    count = len(request.prompts) * (request.config.num_return_sequences or 1)
    logprobs = [target_pb2.TokenLogprobs(logprob=-0.5, top_ids=[1], top_logprobs=[-0.5])]
    yield started(request)
    for i in range(count):
        more: Any = {"logprobs": logprobs * 3} if request.HasField("logprobs") else {}
        ids = (10 * i + 1, 10 * i + 2, 10 * i + 3)
        more["origins"] = [_DRAFT_MODEL, target_pb2.TOKEN_ORIGIN_ALTERNATIVE, _TARGET]
        yield chunk(i, ids, num_accepted=2, text_offsets=[0, 3, 6], **more)
    for i in range(count):
        more = {"logprobs": logprobs * 2} if request.HasField("logprobs") else {}
        more["origins"] = [target_pb2.TOKEN_ORIGIN_NGRAM, _TARGET]
        more["text_offsets"] = [0, len(f"t{10 * i + 4} ")]
        end = target_pb2.FINISH_REASON_LENGTH
        yield chunk(i, (10 * i + 4, 10 * i + 5), end, num_accepted=1, **more)
    yield finished(count)


def endless(
    request: target_pb2.GenerateRequest, context: Any
) -> Iterator[target_pb2.GenerateResponse]:
    """Sends one token each 10 ms, until the caller leaves."""
    yield started(request)
    while context.is_active():
        yield chunk(0, (1,))
        time.sleep(0.01)


def silent(
    request: target_pb2.GenerateRequest, context: Any
) -> Iterator[target_pb2.GenerateResponse]:
    """Sends one chunk, then nothing until the call ends."""
    yield started(request)
    yield chunk(0, (1, 2))
    while context.is_active():
        time.sleep(0.01)


def fails(code: grpc.StatusCode, details: str = "no", after: int = 0, metadata: Any = ()) -> Script:
    """Ends with a status after a number of chunks; with 0 before any message."""

    def script(
        request: target_pb2.GenerateRequest, context: Any
    ) -> Iterator[target_pb2.GenerateResponse]:
        if after:
            yield started(request)
        for i in range(after):
            yield chunk(0, (i + 1,))
        context.set_trailing_metadata(metadata)
        context.abort(code, details)

    return script


class FakeTarget(target_pb2_grpc.TargetServiceServicer):
    """Runs its scripts one after another, the last one again and again, and keeps what it saw."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts) or [answer]
        self.requests: list[target_pb2.GenerateRequest] = []
        self.tokenized: list[target_pb2.TokenizeRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.configs: dict[str, generation_pb2.GenerationConfig] = {}
        self.reached, self.left = threading.Event(), threading.Event()
        self._server: Any = None
        self.address = "127.0.0.1:0"

    def Generate(self, request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        context.add_callback(self.left.set)
        self.reached.set()
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        yield from script(request, context)

    def Tokenize(self, request: Any, context: Any) -> target_pb2.TokenizeResponse:
        if request.prompt.text == "refused":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "prompts: a prompt is empty")
        self.tokenized.append(request)
        ids = [
            generation_pb2.TokenIds(ids=range(len(p.text) or len(p.chat.messages)))
            for p in [*request.prompts, request.prompt]
        ]
        return target_pb2.TokenizeResponse(token_ids=ids[-1], batch=ids[:-1])

    def Detokenize(self, request: Any, context: Any) -> target_pb2.DetokenizeResponse:
        hidden = 0 if request.skip_special_tokens else -1
        texts = ["".join(f"t{i} " for i in t.ids if i != hidden) for t in request.token_ids]
        return target_pb2.DetokenizeResponse(texts=texts)

    def DetectWatermark(self, request: Any, context: Any) -> target_pb2.DetectWatermarkResponse:
        found = [
            target_pb2.WatermarkDetection(num_tokens_scored=len(t.token_ids.ids))
            for t in request.texts
        ]
        return target_pb2.DetectWatermarkResponse(detections=found)

    def ListGenerationConfigs(
        self, request: Any, context: Any
    ) -> target_pb2.ListGenerationConfigsResponse:
        return target_pb2.ListGenerationConfigsResponse(names=sorted(self.configs))

    def GetGenerationConfig(
        self, request: Any, context: Any
    ) -> target_pb2.GetGenerationConfigResponse:
        if request.name not in self.configs:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "generation_config: there is none")
        return target_pb2.GetGenerationConfigResponse(config=self.configs[request.name])

    def SaveGenerationConfig(
        self, request: Any, context: Any
    ) -> target_pb2.SaveGenerationConfigResponse:
        if request.name == "secret":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not allowed")
        self.configs[request.name] = request.config
        return target_pb2.SaveGenerationConfigResponse()

    def GetModelInfo(self, request: Any, context: Any) -> target_pb2.GetModelInfoResponse:
        config = generation_pb2.GenerationConfig(temperature=0.5, top_k=0)
        config.eos_token_id.ids.append(2)
        return target_pb2.GetModelInfoResponse(
            model="fake",
            max_length=512,
            rows=4,
            drafts={"draft:1": "ready"},
            generation_config=config,
        )

    def start(self) -> "FakeTarget":
        """Listens, on the same port again after `stop`."""
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        target_pb2_grpc.add_TargetServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(self.address)}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Ends every call."""
        if self._server:
            self._server.stop(None).wait()
            self._server = None
