"""Values that break scores, tables or headers cost their sender alone.

Poisons are made from the table of generation fields and from the messages themselves, so that a new
field is tried without being named here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor

from foredraft import AsyncClient, GenerationConfig
from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc
from foredraft.wire import GENERATION_FIELDS, Field, Kind, Scope
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.vocabulary import Vocabulary
from tests.loopback import LoopbackTarget, draft_service, target_service
from tests.models import bundled, rows_of

PROMPT = "def main("
NEW_TOKENS = 6
CLEAN = {
    "greedy": GenerationConfig(max_new_tokens=24),
    "coupled": GenerationConfig(max_new_tokens=24, do_sample=True),
}
# A draft that answers too late for a round under load says nothing about isolation.
HARMLESS = {"late", "cheaper", "empty"}
FLOATS = (5e-324, 1e-300, 1e-45, 1e-38, 1e-6, 0.5, 1e6, 3.5e38, 1e300, -1e300, float("nan"))
TEXTS = ("\0", "a\nb", "é", "x" * 2000)
LAST = 2**32 - 1
UNKNOWN = "<image>"


def poisons(field: Field, known_ids: int) -> Iterator[Any]:
    """Yields the extreme values of a field, as values or as protobuf messages."""
    ids = (known_ids - 1, known_ids, LAST)
    match field.kind:
        case Kind.BOOL:
            yield from (True, False)
        case Kind.UINT:
            yield from (0, 1, 2**31 - 1, LAST)
        case Kind.FLOAT:
            yield from FLOATS
        case Kind.STRING:
            yield from TEXTS
        case Kind.STRINGS:
            yield from (generation_pb2.Strings(values=[text]) for text in TEXTS)
        case Kind.TOKEN_ID:
            yield from ids
        case Kind.TOKEN_IDS:
            yield from (generation_pb2.TokenIds(ids=[i]) for i in ids)
            yield generation_pb2.TokenIds(ids=range(known_ids))
        case Kind.SEQUENCES:
            yield from (_sequences([[i]]) for i in ids)
            yield _sequences([[i] for i in range(1024)])
        case Kind.BIASES:
            yield from (_biases([i], bias) for i in ids for bias in (1.0, *FLOATS))
        case Kind.TOKEN_BIASES:
            yield from (
                generation_pb2.TokenBiases(values={i: min(bias, 3e38)})
                for i in ids
                for bias in (1.0, *FLOATS)
            )
        case Kind.EARLY_STOPPING:
            yield from generation_pb2.EarlyStopping.values()
        case Kind.DECAY:
            starts = (0, LAST)
            yield from (
                generation_pb2.ExponentialDecay(start=start, factor=factor)
                for start in starts
                for factor in FLOATS
            )
        case Kind.WATERMARK:
            yield from _watermarks()
        case Kind.CACHE:
            yield from (generation_pb2.CacheConfig(nbits=n, q_group_size=n) for n in (0, 1, LAST))
        case Kind.RESPONSE_FORMAT:
            yield from _formats()


def _sequences(values: list[list[int]]) -> generation_pb2.TokenIdsList:
    return generation_pb2.TokenIdsList(values=[generation_pb2.TokenIds(ids=v) for v in values])


def _biases(ids: list[int], bias: float) -> generation_pb2.SequenceBiasList:
    return generation_pb2.SequenceBiasList(
        values=[generation_pb2.SequenceBias(ids=ids, bias=min(bias, 3e38))]
    )


def _formats() -> Iterator[generation_pb2.ResponseFormat]:
    """Yields formats of every kind: what is none, what nothing meets, and what has no end."""
    yield generation_pb2.ResponseFormat(json_object={})
    for text in ("", "{", "false", '{"enum": []}', "[" * 2000):
        yield generation_pb2.ResponseFormat(json_schema=text)
        yield generation_pb2.ResponseFormat(structural_tag={"format": text})
    for text in (*TEXTS, "(", "[^\\s\\S]", "(.*)*", "(a|b){500}"):
        yield generation_pb2.ResponseFormat(regex=text)
        yield generation_pb2.ResponseFormat(grammar=text)
        yield generation_pb2.ResponseFormat(choice=generation_pb2.Strings(values=[text]))
    yield generation_pb2.ResponseFormat(choice={})
    yield generation_pb2.ResponseFormat(structural_tag={})


def _watermarks() -> Iterator[generation_pb2.WatermarkingConfig]:
    """Yields each scheme with each number at an extreme."""
    for scheme in ("greenlist", "synth_id"):
        fields = getattr(generation_pb2.WatermarkingConfig(), scheme).DESCRIPTOR.fields
        for descriptor in fields:
            for number in (0, 1, LAST):
                mark = generation_pb2.WatermarkingConfig()
                message = getattr(mark, scheme)
                message.SetInParent()
                if scheme == "synth_id":
                    message.ngram_len = 3
                    message.keys.extend([1, 2])
                if descriptor.is_repeated:
                    getattr(message, descriptor.name).extend([number] * 3)
                elif descriptor.type == FieldDescriptor.TYPE_STRING:
                    setattr(message, descriptor.name, "selfhash" if number else "\0")
                elif descriptor.type == FieldDescriptor.TYPE_BOOL:
                    setattr(message, descriptor.name, bool(number))
                else:
                    setattr(message, descriptor.name, number)
                yield mark


def requests(field: Field, known_ids: int) -> Iterator[tuple[str, target_pb2.GenerateRequest]]:
    """Yields calls with the poisons of a field, in the modes in which it has an effect."""
    modes: list[dict[str, Any]] = [{}, {"do_sample": True}]
    if field.scope is Scope.BEAMS:
        modes = [{"num_beams": 2}]
    for value in poisons(field, known_ids):
        for mode in modes:
            config = generation_pb2.GenerationConfig(**{"max_new_tokens": NEW_TOKENS, **mode})
            if hasattr(value, "DESCRIPTOR"):
                getattr(config, field.name).CopyFrom(value)
            else:
                setattr(config, field.name, value)
            yield f"{field.name}={value}".replace("\n", " "), _call(config)


def strings_of_the_call() -> Iterator[tuple[str, target_pb2.GenerateRequest]]:
    """Yields calls with every text field of the request poisoned, `request_id` among them."""
    for descriptor in target_pb2.GenerateRequest.DESCRIPTOR.fields:
        if descriptor.type == FieldDescriptor.TYPE_STRING and not descriptor.is_repeated:
            for text in TEXTS:
                call = _call(generation_pb2.GenerationConfig(max_new_tokens=NEW_TOKENS))
                setattr(call, descriptor.name, text)
                yield f"{descriptor.name}={text!r}", call


def prompts_of_the_call(known_ids: int) -> Iterator[tuple[str, target_pb2.GenerateRequest]]:
    for i in (known_ids, LAST):
        call = _call(generation_pb2.GenerationConfig(max_new_tokens=NEW_TOKENS))
        call.prompts[0].token_ids.ids[:] = [1, i]
        yield f"prompt id {i}", call
        call = _call(generation_pb2.GenerationConfig(max_new_tokens=NEW_TOKENS))
        call.prompts[0].generated_ids[:] = [i]
        yield f"generated id {i}", call
    call = _call(generation_pb2.GenerationConfig(max_new_tokens=NEW_TOKENS, token_healing=True))
    call.prompts[0].text = f"a {UNKNOWN}"
    yield "prompt text", call


def scores_of_the_call() -> Iterator[tuple[str, target_pb2.GenerateRequest]]:
    for sample in (False, True):
        config = generation_pb2.GenerationConfig(
            max_new_tokens=NEW_TOKENS,
            do_sample=sample,
            output_scores=True,
            output_logits=True,
            repetition_penalty=1e-6,
        )
        yield f"output_scores, do_sample={sample}", _call(config)


def _call(config: generation_pb2.GenerationConfig) -> target_pb2.GenerateRequest:
    prompts = [generation_pb2.Prompt(text=PROMPT)]
    return target_pb2.GenerateRequest(prompts=prompts, config=config)


def with_a_token_too_many(kind: str) -> LoadedModel:
    """Returns a bundled model whose tokenizer has an id that the model has no row for.

    Checkpoints for text alone of models that also see are of this kind.
    """
    model = bundled(kind)
    tokenizer = deepcopy(model.tokenizer)
    tokenizer.add_tokens([UNKNOWN])
    return replace(model, tokenizer=tokenizer, vocabulary=Vocabulary.of(tokenizer))


@asynccontextmanager
async def pair() -> AsyncIterator[LoopbackTarget]:
    """Both services with real models that share a vocabulary."""
    draft, target = with_a_token_too_many("draft"), with_a_token_too_many("target")
    assert target.known_ids == target.vocabulary.size - 1
    async with (
        draft_service(rows_of(draft.module, 8, 256, spare=64), draft) as drafting,
        target_service(
            rows_of(target.module, 8, 256, spare=16), target, drafting.address
        ) as service,
    ):
        yield service


async def _send(stub: Any, call: target_pb2.GenerateRequest) -> str:
    """Sends a call; returns what is wrong with the answer, empty if it is one or a refusal."""
    try:
        async with asyncio.timeout(60):
            async for _ in stub.Generate(call):
                pass
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            return f"{error.code().name}: {error.details()}"
    except TimeoutError:
        return "no answer in 60 s"
    return ""


async def test_a_poison_costs_its_sender_alone() -> None:
    known_ids = with_a_token_too_many("target").known_ids
    async with pair() as target, AsyncClient(target.address) as client:
        kinds: dict[str, list[tuple[str, target_pb2.GenerateRequest]]] = {
            name: list(requests(field, known_ids)) for name, field in GENERATION_FIELDS.items()
        }
        kinds["texts"] = list(strings_of_the_call())
        kinds["prompts"] = list(prompts_of_the_call(known_ids))
        kinds["scores"] = list(scores_of_the_call())
        clean = {name: await _clean(client, name) for name in CLEAN}
        faults: list[str] = []
        async with grpc.aio.insecure_channel(target.address) as channel:
            stub: Any = target_pb2_grpc.TargetServiceStub(channel)
            for name, calls in kinds.items():
                faults += await _beside(stub, client, name, calls, clean)
        assert not faults, "\n".join(faults)
        assert target.value("foredraft_rows_in_use") == 0


async def _clean(client: AsyncClient, name: str) -> Any:
    seed = 7 if name == "coupled" else None
    return await client.generate(PROMPT, CLEAN[name], seed=seed)


async def _beside(
    stub: Any,
    client: AsyncClient,
    kind: str,
    calls: list[tuple[str, target_pb2.GenerateRequest]],
    expected: dict[str, Any],
) -> list[str]:
    """Sends poisons of one kind beside clean calls; returns what is wrong with either."""
    faults: list[str] = []

    async def sender() -> None:
        for name, call in calls:
            if wrong := await _send(stub, call):
                faults.append(f"{name[:80]}: {wrong}")

    sending = asyncio.create_task(sender())
    while not sending.done():
        for name, want in expected.items():
            got = await _clean(client, name)
            if got.token_ids != want.token_ids:
                faults.append(f"{kind}: the clean caller's {name} text differs")
            if lost := set(got.stats.fallbacks) - HARMLESS:
                faults.append(f"{kind}: the clean caller's rounds lost their draft: {lost}")
    await sending
    return faults


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_poisons(kind: Kind) -> None:
    fields = [field for field in GENERATION_FIELDS.values() if field.kind is kind]
    assert all(list(poisons(field, 100)) for field in fields)
