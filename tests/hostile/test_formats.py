"""Response formats that are made to take too much: each is refused, or followed in bounded work,
and other callers' texts are what they were.
"""

import asyncio
import json
from itertools import pairwise
from typing import Any

import grpc
import pytest

from foredraft import AsyncClient
from foredraft.v1 import generation_pb2, target_pb2, target_pb2_grpc
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import FIELD, Grammar
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.sampling import ResponseFormat
from foredraft_serving.grammars import Grammars
from foredraft_serving.ranges import check_ranges
from tests.fakes import TableRows
from tests.grammars import ascii_tokenizer, held_model, json_table
from tests.loopback import named_fields, target_service

_DEEP, _MANY = 6_000, 2_000
_STRING = {"type": "string"}


def _deep_schema(depth: int) -> str:
    begin, end = '{"type": "array", "items": ', "}"
    return begin * depth + '{"type": "null"}' + end * depth


def _chain(define: str, last: str) -> str:
    names = [f"r{i}" for i in range(_DEEP // 2)]
    return "".join(define.format(*pair) for pair in pairwise(names)) + last.format(names[-1])


def _references(count: int) -> str:
    """A schema each of whose parts leads to the next one."""
    parts: dict[str, Any] = {f"p{i}": {"$ref": f"#/$defs/p{i + 1}"} for i in range(count)}
    return json.dumps({"$ref": "#/$defs/p0", "$defs": {**parts, f"p{count}": {"type": "null"}}})


# The kind of a format and its text. Some are harmless to what compiles them, as it is now.
ATTACKS: dict[str, tuple[str, str]] = {
    "a deep schema": ("json_schema", _deep_schema(1_500)),
    "a schema as deep as may be": ("json_schema", _deep_schema(60)),
    "a chain of references": ("json_schema", _references(_MANY // 2)),
    "a circle of references": (
        "json_schema",
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}',
    ),
    "many properties": (
        "json_schema",
        json.dumps({"type": "object", "properties": {f"p{i}": _STRING for i in range(_MANY)}}),
    ),
    "many objects": (
        "json_schema",
        json.dumps({"anyOf": [{"properties": {f"p{i}": _STRING}} for i in range(_MANY // 2)]}),
    ),
    "a product of lengths": (
        "json_schema",
        json.dumps(
            {
                "allOf": [
                    {"anyOf": [{**_STRING, "minLength": 10 * i + j} for j in range(10)]}
                    for i in range(10)
                ]
            }
        ),
    ),
    "patterns together": (
        "json_schema",
        json.dumps({"allOf": [{**_STRING, "pattern": f".*{c}.*"} for c in "abcdefghijklmnop"]}),
    ),
    "nested lists": (
        "json_schema",
        json.dumps({"type": "array", "minItems": 10**6, "items": {"type": "array"}}),
    ),
    "a long string": ("json_schema", json.dumps({**_STRING, "minLength": 10**6})),
    "an exponential expression": ("regex", "(a|aa)*" * 40),
    "exponential counts": ("regex", "(.*[ab].{50}){30}"),
    "counts of counts": ("regex", "(a{1,1000}){1,1000}"),
    "many states": ("regex", "(?s:.*)" + "(?s:.{1,500})" * 40),
    "a deep expression": ("regex", "(" * _DEEP + "a" + ")" * _DEEP),
    "a deep grammar": ("grammar", "start: " + "(" * _DEEP + '"a"' + ")" * _DEEP),
    "a deep GBNF": ("grammar", "root ::= " + "(" * _DEEP + '"a"' + ")" * _DEEP),
    "a chain of rules": ("grammar", "start: r0\n" + _chain("{}: {}\n", '{}: "a"')),
    "a chain of possible rules": ("grammar", "start: r0\n" + _chain('{}: {}? "x"\n', '{}: "a"')),
    "a chain of GBNF": ("grammar", "root ::= r0\n" + _chain("{} ::= {}\n", '{} ::= "a"')),
    "an ambiguous grammar": ("grammar", 'start: s\ns: s s s | s s | "x" | "xx" | "xxx"'),
    "a grammar that leads to itself": ("grammar", "start: start | start start"),
    "many choices": ("choice", json.dumps([f"{i} of them" for i in range(_MANY)])),
}


def _message(kind: str, text: str) -> generation_pb2.ResponseFormat:
    if kind == "choice":
        choice = generation_pb2.Strings(values=json.loads(text))
        return generation_pb2.ResponseFormat(choice=choice)
    return generation_pb2.ResponseFormat(**{kind: text})  # type: ignore[arg-type]


async def _refusal(
    address: str, wanted: generation_pb2.ResponseFormat, end: int
) -> tuple[()] | tuple[grpc.StatusCode, set[str]]:
    """Returns how a call is refused that a client of another language sent: the SDK would refuse
    some formats itself. It is empty where the format is followed.
    """
    config = generation_pb2.GenerationConfig(
        response_format=wanted,
        eos_token_id=generation_pb2.TokenIds(ids=[end]),
        max_new_tokens=40,
        do_sample=True,
    )
    prompt = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[40]))
    request = target_pb2.GenerateRequest(prompts=[prompt], config=config, seed=1)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        try:
            async for _ in stub.Generate(request, timeout=300):
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), named_fields(error)
    return ()


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_dear_format_is_refused_or_followed(name: str) -> None:
    tokenizer = ascii_tokenizer()
    settings: dict[str, Any] = {"eos_token_id": tokenizer.eos_token_id, "max_new_tokens": 40}
    rows, model = TableRows(json_table(tokenizer, 3)), held_model(tokenizer)
    async with (
        target_service(rows, model) as target,
        AsyncClient(target.address, timeout=300) as client,
    ):
        honest = await client.generate([40, 41], **settings)
        wanted = _message(*ATTACKS[name])
        refusal = await _refusal(target.address, wanted, tokenizer.eos_token_id)
        assert refusal in ((), (grpc.StatusCode.INVALID_ARGUMENT, {"response_format"}))
        assert (await client.generate([40, 41], **settings)).token_ids == honest.token_ids


def test_a_format_of_any_size_is_bounded() -> None:
    config = generation_pb2.GenerationConfig(response_format=_message("regex", "a" * (64 << 10)))
    with pytest.raises(InvalidFieldError, match="at most 65536"):
        check_ranges(config, 100)


async def test_a_format_that_takes_too_long_is_refused() -> None:
    """Whoever waits is told; the thread goes on until llguidance comes to an end."""
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck(wanted: ResponseFormat) -> Grammar:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(timeout=300)
        raise InvalidFieldError(FIELD, "too late")

    results: list[str] = []
    grammars = Grammars(stuck, on_result=results.append, timeout_s=0.05)
    with pytest.raises(InvalidFieldError, match=r"within 0\.05 s"):
        await grammars.compiled(ResponseFormat("regex", "a"), "")
    released.set()
    grammars.close()
    assert results == ["refused"]


async def test_few_grammars_are_kept_each_for_its_owner() -> None:
    made: list[str] = []

    def compile_format(wanted: ResponseFormat) -> Grammar:
        made.append(wanted.text)
        return GrammarCompiler(ascii_tokenizer()).compile(wanted)

    results: list[str] = []
    grammars = Grammars(compile_format, on_result=results.append)
    a, b = ResponseFormat("regex", "a"), ResponseFormat("regex", "b")
    for wanted, scope in ((a, "one"), (a, "one"), (a, "other"), (b, "one"), (a, "one")):
        await grammars.compiled(wanted, scope)
    assert made == ["a", "a", "b"]
    assert results == ["compiled", "kept", "compiled", "compiled", "kept"]
    for i in range(64):
        await grammars.compiled(ResponseFormat("regex", "x" * (i + 1)), "one")
    await grammars.compiled(a, "one")
    assert made[-1] == "a", "the oldest are gone"
    grammars.close()
