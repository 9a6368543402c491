"""The service for gateways: for each field the text that the SDK gives, and refusals by name."""

import asyncio
import copy
import hashlib
import io
import json
import math
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from smg_grpc_proto.generated import common_pb2, vllm_engine_pb2_grpc
from smg_grpc_proto.generated import vllm_engine_pb2 as pb
from transformers import AutoTokenizer

from foredraft import AsyncClient, Result
from tests.fakes import SlowRows, random_table, table_model
from tests.loopback import LoopbackTarget, draft_service, named_fields, target_service
from tests.models import bundled, rows_of

NEW_TOKENS = 16
SEEDED: dict[str, Any] = {"temperature": 0.8, "seed": 7}
SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "seed": 7, "top_k": 0}
BOOLEAN = {"type": "boolean"}
STRUCTURES: Any = {
    "structures": [{"begin": "(", "schema": BOOLEAN, "end": ")"}],
    "triggers": ["("],
}
_TAG = {"begin": "(", "content": {"type": "regex", "pattern": "[ab]{3}"}, "end": ")"}
TREE: Any = {"type": "structural_tag", "format": {"type": "tag", **_TAG}}
# What a gateway sends, and the same in the SDK.
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({"temperature": 0.0}, {}),
    "seed": (SEEDED, SAMPLED),
    "top_p, top_k, min_p": (
        {**SEEDED, "top_p": 0.9, "top_k": 20, "min_p": 0.05},
        {**SAMPLED, "top_p": 0.9, "top_k": 20, "min_p": 0.05},
    ),
    "several": ({**SEEDED, "n": 3}, {**SAMPLED, "num_return_sequences": 3}),
    "penalties": (
        {
            "temperature": 0.0,
            "frequency_penalty": 0.7,
            "presence_penalty": 0.4,
            "repetition_penalty": 1.2,
        },
        {"frequency_penalty": 0.7, "presence_penalty": 0.4, "repetition_penalty": 1.2},
    ),
    "biases": (
        {"temperature": 0.0, "logit_bias": {300: -100.0, 40: 2.5}},
        {"logit_bias": {300: -100.0, 40: 2.5}},
    ),
    "stop strings": ({"temperature": 0.0, "stop": ["(", "\n"]}, {"stop_strings": ["(", "\n"]}),
    "minimum": (
        {"temperature": 0.0, "min_tokens": 5, "stop_token_ids": list(range(3, 900, 2))},
        {"min_new_tokens": 5, "eos_token_id": [0, *range(3, 900, 2)]},
    ),
    "choice": (
        {
            "temperature": 0.0,
            "choice": pb.ChoiceConstraint(choices=["yes", "no"]),
            "stop_token_ids": [0],
        },
        {"response_format": {"type": "choice", "choice": ["yes", "no"]}, "eos_token_id": 0},
    ),
    "regex": (
        {**SEEDED, "regex": "[a-c]{4}", "stop_token_ids": [0]},
        {**SAMPLED, "response_format": {"type": "regex", "regex": "[a-c]{4}"}, "eos_token_id": 0},
    ),
    "schema": (
        {"temperature": 0.0, "json_schema": '{"type": "boolean"}', "stop_token_ids": [0]},
        {
            "response_format": {"type": "json_schema", "json_schema": {"schema": BOOLEAN}},
            "eos_token_id": 0,
        },
    ),
    "structures": (
        {
            "structural_tag": json.dumps({"type": "structural_tag", **STRUCTURES}),
            "stop_token_ids": [0],
            **SEEDED,
        },
        {
            "response_format": {"type": "structural_tag", "structural_tag": STRUCTURES},
            "eos_token_id": 0,
            **SAMPLED,
        },
    ),
    "a tree": (
        {"structural_tag": json.dumps(TREE), "temperature": 0.0, "stop_token_ids": [0]},
        {"response_format": TREE, "eos_token_id": 0},
    ),
    "a tree without the type of the whole": (
        {
            "structural_tag": json.dumps({"format": TREE["format"]}),
            "temperature": 0.0,
            "stop_token_ids": [0],
        },
        {"response_format": TREE, "eos_token_id": 0},
    ),
    "end ignored": ({"temperature": 0.0, "ignore_eos": True}, {"eos_token_id": []}),
}


@dataclass
class Served:
    """A target with a draft, its gateway stub and an SDK."""

    target: LoopbackTarget
    stub: Any
    client: AsyncClient

    async def sent(self, prompt: Any, stream: bool = False, **params: Any) -> list[Any]:
        """Returns the answers to a request."""
        given = {"max_tokens": NEW_TOKENS, **params}
        request = pb.GenerateRequest(
            request_id="call", stream=stream, sampling_params=pb.SamplingParams(**given), **prompt
        )
        return [answer async for answer in self.stub.Generate(request)]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    draft, target = bundled("draft"), bundled("target")
    async with (
        draft_service(rows_of(copy.deepcopy(draft.module)), draft) as drafting,
        target_service(
            rows_of(copy.deepcopy(target.module), spare=16), target, drafting.address
        ) as running,
        AsyncClient(running.address) as client,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        yield Served(running, vllm_engine_pb2_grpc.VllmEngineStub(channel), client)


async def test_texts_are_those_of_the_sdk(served: Served, prompts: list[str]) -> None:
    ids = bundled("target").tokenizer(prompts[0])["input_ids"]
    for name, (theirs, ours) in CALLS.items():
        found = await served.client.generate(ids, max_new_tokens=NEW_TOKENS, **ours)
        wanted = [found] if isinstance(found, Result) else found
        for prompt in ({"text": prompts[0]}, {"tokenized": pb.TokenizedInput(input_ids=ids)}):
            whole = [answer.complete for answer in await served.sent(prompt, **theirs)]
            assert [list(one.output_ids) for one in whole] == [
                list(one.token_ids) for one in wanted
            ], name
            for one, result in zip(whole, wanted, strict=True):
                assert one.prompt_tokens == len(ids)
                assert one.completion_tokens == len(result.token_ids)
                length = result.finish_reason == "length"
                assert one.finish_reason == ("length" if length else "stop")
        answers = await served.sent(prompt, stream=True, **theirs)
        pieces: dict[int, list[int]] = {}
        for answer in answers:
            if answer.HasField("chunk"):
                pieces.setdefault(answer.chunk.index, []).extend(answer.chunk.token_ids)
        assert [pieces[i] for i in range(len(wanted))] == [list(one.token_ids) for one in wanted]
        assert [a.complete.index for a in answers if a.HasField("complete")] == sorted(pieces)


async def test_why_a_text_ended(served: Served, prompts: list[str]) -> None:
    prompt = {"text": prompts[0]}
    plain = (await served.sent(prompt, temperature=0.0))[0].complete
    assert plain.finish_reason == "length"
    assert plain.WhichOneof("matched_stop") is None
    stop = plain.output_ids[4]
    (by_id,) = await served.sent(prompt, temperature=0.0, stop_token_ids=[stop])
    assert by_id.complete.matched_token_id == stop
    text = bundled("target").tokenizer.decode(plain.output_ids)
    string = text[5:8]
    (by_string,) = await served.sent(prompt, temperature=0.0, stop=["\x00never", string])
    assert by_string.complete.matched_stop_str == string
    assert by_string.complete.finish_reason == "stop"


async def test_counts(served: Served, prompts: list[str]) -> None:
    (one,) = await served.sent({"text": prompts[1]}, temperature=0.0, max_tokens=40)
    assert one.complete.spec_draft_tokens >= one.complete.spec_accepted_tokens
    asked = {"metadata": {"authorization": "Bearer same"}.items()}
    cached = []
    for _ in range(2):
        request = pb.GenerateRequest(text=prompts[1], sampling_params={"max_tokens": 2})
        async for answer in served.stub.Generate(request, metadata=tuple(asked["metadata"])):
            cached.append(answer.complete.cached_tokens)
    assert cached[0] == 0
    assert cached[1] > 0


async def test_log_probabilities(served: Served, prompts: list[str]) -> None:
    ids = bundled("target").tokenizer(prompts[0])["input_ids"]
    want = await served.client.generate(
        ids, max_new_tokens=NEW_TOKENS, logprobs=3, prompt_logprobs=2
    )
    asked: dict[str, Any] = {"temperature": 0.0, "logprobs": 3, "prompt_logprobs": 2}
    (whole,) = await served.sent({"text": prompts[0]}, **asked)
    streamed = await served.sent({"text": prompts[0]}, stream=True, **asked)
    chunks = [answer.chunk for answer in streamed if answer.HasField("chunk")]
    assert not any(chunk.HasField("input_logprobs") for chunk in chunks[1:])
    for prompt in (whole.complete.input_logprobs, chunks[0].input_logprobs):
        assert list(prompt.token_ids) == ids
        assert not prompt.token_logprobs[0].HasField("value")
        told = [entry.value for entry in prompt.token_logprobs][1:]
        known = [entry.logprob for entry in want.prompt_logprobs if entry]
        assert told == pytest.approx(known, abs=1e-4)
        assert [len(top.token_ids) for top in prompt.top_logprobs] == [0, *[2] * len(known)]
    pieces = [entry for chunk in chunks for entry in chunk.output_logprobs.token_logprobs]
    known = [entry.logprob for entry in want.logprobs]
    assert pieces == pytest.approx(known, abs=1e-4)
    outputs = whole.complete.output_logprobs
    assert list(outputs.token_logprobs) == pytest.approx(known, abs=1e-4)
    assert list(outputs.token_ids) == list(want.token_ids)
    assert [len(top.values) for top in outputs.top_logprobs] == [3] * NEW_TOKENS


async def test_a_prompt_is_cut_to_its_end(served: Served, prompts: list[str]) -> None:
    ids = bundled("target").tokenizer(prompts[0])["input_ids"]
    want = await served.client.generate(ids[-5:], max_new_tokens=NEW_TOKENS)
    cut: dict[str, Any] = {"temperature": 0.0, "truncate_prompt_tokens": 5}
    for prompt in ({"text": prompts[0]}, {"tokenized": pb.TokenizedInput(input_ids=ids)}):
        (one,) = await served.sent(prompt, **cut)
        assert list(one.complete.output_ids) == list(want.token_ids)
        assert one.complete.prompt_tokens == 5
    # As much as fits, of what would not.
    long = {"tokenized": pb.TokenizedInput(input_ids=ids * 200)}
    (one,) = await served.sent(long, temperature=0.0, truncate_prompt_tokens=-1)
    assert one.complete.prompt_tokens == served.target.engine.capacity - NEW_TOKENS


async def test_without_a_length_a_text_is_as_long_as_fits(served: Served) -> None:
    request = pb.GenerateRequest(
        text="def main(", sampling_params={"temperature": 0.0, "ignore_eos": True}
    )
    answers = [answer.complete async for answer in served.stub.Generate(request)]
    assert answers[0].prompt_tokens + answers[0].completion_tokens == served.target.engine.capacity


async def test_log_probabilities_of_the_whole_vocabulary(served: Served) -> None:
    """A call is told a bounded number of them, in one message or in several."""
    size = bundled("target").scored_ids
    asked: dict[str, Any] = {"logprobs": -1, "max_tokens": 3, "temperature": 0.0}
    (whole,) = await served.sent({"text": "def main("}, prompt_logprobs=-1, **asked)
    parts = await served.sent({"text": "def main("}, stream=True, **asked)
    chunks = [part.chunk for part in parts if part.HasField("chunk")]
    streamed = [one for chunk in chunks for one in chunk.output_logprobs.top_logprobs]
    output, given = whole.complete.output_logprobs, whole.complete.input_logprobs
    assert [list(one.token_ids) for one in streamed] == [
        list(one.token_ids) for one in output.top_logprobs
    ]
    for one in (*output.top_logprobs, *given.top_logprobs[1:]):
        assert len(one.token_ids) == len(set(one.token_ids)) == size
        assert sum(map(math.exp, one.values)) == pytest.approx(1, abs=1e-3)


TENSORS = pb.MultimodalInputs()
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mm_inputs": ({"mm_inputs": TENSORS}, {}),
    "extra_mm_inputs": ({"extra_mm_inputs": [TENSORS]}, {}),
    "media_refs": ({"media_refs": pb.MediaRefs()}, {}),
    "kv_transfer_params": ({"kv_transfer_params": pb.KvTransferParams()}, {}),
    "kv_transfer_params_json": ({"kv_transfer_params_json": "{}"}, {}),
    "data_parallel_rank": ({"data_parallel_rank": 1}, {}),
    "sampling_params.logprobs": ({}, {"logprobs": -1, "max_tokens": 400}),
    "sampling_params.prompt_logprobs": ({}, {"prompt_logprobs": -2}),
    "sampling_params.structural_tag": ({}, {"structural_tag": "{"}),
    "sampling_params.max_tokens": ({}, {"max_tokens": 0}),
    "sampling_params.temperature": ({}, {"temperature": -1.0}),
    "sampling_params.top_p": ({}, {"top_p": 1.5}),
    "sampling_params.frequency_penalty": ({}, {"frequency_penalty": 3.0}),
    "sampling_params.logit_bias": ({}, {"logit_bias": {-1: 2.0}}),
    "sampling_params.stop_token_ids": ({}, {"stop_token_ids": [10**6]}),
    "sampling_params.stop": ({}, {"stop": [""]}),
    "sampling_params.n": ({}, {"n": 2, "temperature": 0.0}),
    "sampling_params.truncate_prompt_tokens": ({}, {"truncate_prompt_tokens": 0}),
}


async def test_refusals_have_the_names_that_callers_know(served: Served) -> None:
    for name, (fields, params) in REFUSED.items():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.sent({"text": "def", **fields}, **{"temperature": 0.7, **params})
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        assert name in named_fields(refused.value), refused.value.details()
    with pytest.raises(grpc.aio.AioRpcError, match="no prompt"):
        await served.sent({})
    invalid = served.target.value("foredraft_request_failure_total", reason="invalid")
    assert invalid == len(REFUSED) + 1
    for method in ("Embed", "FlushCache", "StartProfile", "StopProfile"):
        kind = {"Embed": pb.EmbedRequest}.get(method) or getattr(common_pb2, f"{method}Request")
        with pytest.raises(grpc.aio.AioRpcError, match=method) as refused:
            await getattr(served.stub, method)(kind())
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_is_told_of_the_model(served: Served, tmp_path: Path) -> None:
    assert (await served.stub.HealthCheck(pb.HealthCheckRequest())).healthy
    info = await served.stub.GetModelInfo(pb.GetModelInfoRequest())
    assert info.is_generation
    assert info.max_context_length == served.target.engine.capacity
    assert info.vocab_size == 4096
    server = await served.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert server.max_num_seqs == served.target.engine.pool.count
    chunks = [c async for c in served.stub.GetTokenizer(common_pb2.GetTokenizerRequest())]
    data = b"".join(chunk.data for chunk in chunks)
    assert [chunk.sha256 for chunk in chunks][:-1] == [""] * (len(chunks) - 1)
    assert chunks[-1].sha256 == hashlib.sha256(data).hexdigest()
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert (
        tokenizer("def main(")["input_ids"] == bundled("target").tokenizer("def main(")["input_ids"]
    )
    (load,) = (await served.stub.GetLoads(pb.GetLoadsRequest())).loads
    assert (load.num_running_reqs, load.num_waiting_reqs) == (0, 0)
    assert load.max_running_requests == served.target.engine.pool.count


@pytest.fixture
async def slow() -> AsyncIterator[tuple[LoopbackTarget, Any, SlowRows]]:
    # So slow that no text comes to its end, and without lookups, which would shorten it.
    rows = SlowRows(random_table(10, 0), 0.2, count=1)
    async with (
        target_service(rows, table_model(10), fallback="none") as target,
        grpc.aio.insecure_channel(target.address) as channel,
    ):
        yield target, vllm_engine_pb2_grpc.VllmEngineStub(channel), rows


LONG: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True, "temperature": 0.0}


def _request(request_id: str) -> Any:
    tokens = pb.TokenizedInput(input_ids=[1, 2, 3])
    return pb.GenerateRequest(
        request_id=request_id, tokenized=tokens, stream=True, sampling_params=LONG
    )


async def _rest(call: Any) -> list[Any]:
    answers = []
    while (answer := await call.read()) is not grpc.aio.EOF:
        answers.append(answer)
    return answers


async def test_an_aborted_call_frees_its_row_within_a_round(
    slow: tuple[LoopbackTarget, Any, SlowRows],
) -> None:
    target, stub, rows = slow
    runs = stub.Generate(_request("runs"))
    first = await runs.read()
    assert first.chunk.token_ids  # it has the only row
    waits, another = (stub.Generate(_request(name)) for name in ("waits", "runs"))
    waiting = [asyncio.ensure_future(call.read()) for call in (waits, another)]
    async with asyncio.timeout(60):
        while target.engine.pool.waiting < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await stub.Abort(pb.AbortRequest(request_ids=["unknown", "waits"]))
    ended = await waiting[0]
    assert (ended.complete.finish_reason, ended.complete.completion_tokens) == ("abort", 0)
    # Both calls that have one name end: the one with a row, and the one without.
    await stub.Abort(pb.AbortRequest(request_ids=["runs"]))
    steps = len(rows.steps)
    assert (await waiting[1]).complete.finish_reason == "abort"
    assert (await _rest(runs))[-1].complete.finish_reason == "abort"
    assert target.engine.pool.in_use == 0
    # A round or two on a quiet machine, of a text of 400.
    assert len(rows.steps) <= steps + 40
    assert target.value("foredraft_request_failure_total", reason="cancelled") == 3


async def test_nobody_aborts_the_call_of_another(
    slow: tuple[LoopbackTarget, Any, SlowRows],
) -> None:
    _, stub, _ = slow
    mine, others = (("authorization", "Bearer a"),), (("authorization", "Bearer b"),)
    call = stub.Generate(_request("mine"), metadata=mine)
    assert (await call.read()).chunk.token_ids
    for metadata in ((), others):
        await stub.Abort(pb.AbortRequest(request_ids=["mine"]), metadata=metadata)
    for _ in range(4):
        assert (await call.read()).chunk.token_ids
    await stub.Abort(pb.AbortRequest(request_ids=["mine"]), metadata=mine)
    assert (await _rest(call))[-1].complete.finish_reason == "abort"


async def test_the_load_is_told_while_it_changes(
    slow: tuple[LoopbackTarget, Any, SlowRows],
) -> None:
    _, stub, _ = slow
    request = common_pb2.SubscribeKvEventsRequest(load_records_before_first_batch=True)
    events = stub.SubscribeKvEvents(request)
    quiet = (await events.read()).load
    assert (quiet.running_requests, quiet.load_only, quiet.max_running_requests) == (0, True, 1)
    one = stub.Generate(_request("one"))
    await one.read()  # it has the only row
    two = stub.Generate(_request("two"))
    seen = set()
    async with asyncio.timeout(60):
        while (1, 1) not in seen:
            load = (await events.read()).load
            seen.add((load.running_requests, load.waiting_requests))
        while not load.speculative.accept_length or not load.gen_throughput:
            load = (await events.read()).load
    assert load.sample > quiet.sample
    await stub.Abort(pb.AbortRequest(request_ids=["one", "two"]))
    assert (await _rest(one))[-1].complete.finish_reason == "abort"
    assert (await _rest(two))[-1].complete.finish_reason == "abort"
    events.cancel()


async def test_a_drain_does_not_wait_for_those_who_watch() -> None:
    rows = SlowRows(random_table(10, 0), 0.01, count=1)
    async with target_service(rows, table_model(10)) as target:
        channel = grpc.aio.insecure_channel(target.address)
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        request = common_pb2.SubscribeKvEventsRequest(load_records_before_first_batch=True)
        events = stub.SubscribeKvEvents(request)
        await events.read()
        async with asyncio.timeout(60):
            await target.server.stop(3600)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await _rest(events)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await channel.close()


async def test_without_the_flag_there_is_no_such_service() -> None:
    rows = SlowRows(random_table(10, 0), 0.01, count=1)
    async with (
        target_service(rows, table_model(10), gateway=False) as target,
        grpc.aio.insecure_channel(target.address) as channel,
    ):
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.HealthCheck(pb.HealthCheckRequest())
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
