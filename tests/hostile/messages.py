"""Any message of the protos, from its descriptor, with values that nobody honest sends.

A method, a message or a field that is added later is tried without being named here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as F
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from smg_grpc_proto.generated import vllm_engine_pb2

from foredraft.v1 import draft_pb2, generation_pb2, target_pb2
from target_service.gateway import WATCHES

_DEPTH, _FIELDS, _MANY = 5, 5, 3000
_NAN, _INF = float("nan"), float("inf")
_TEXTS = (
    *("", "\0", "\n", "a", "é\u202e", "\U0010ffff", "x" * 10_000, "{{ 0 }}", "../../etc/passwd"),
    *("<|im_start|>", "%s%n", "'\";--", "[" * 2000, "nan", "None", "auto", "quanto", "lefthash"),
)


@dataclass(frozen=True)
class Method:
    """A method of a service, with the class of its requests."""

    path: str
    request: type[Message]
    streams: bool
    """Whether it takes a stream of requests."""


def methods() -> Iterator[Method]:
    """Yields every method of both services, and of that for gateways."""
    for file in (target_pb2, draft_pb2, vllm_engine_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for one in service.methods:
                path = f"/{service.full_name}/{one.name}"
                if path not in WATCHES:  # which has no end, and reads nothing but two numbers
                    yield Method(path, GetMessageClass(one.input_type), one.client_streaming)


def _whole(least: int, most: int) -> st.SearchStrategy[int]:
    near = st.integers(max(least, -2), 12)
    edges = st.sampled_from([least, most, most // 2, most // 2 + 1])
    return near | edges | st.integers(least, most)


def _floats(largest: float) -> st.SearchStrategy[float]:
    edges = (0.0, -0.0, 1.0, -1.0, 5e-324, 1e-45, 1e-6, largest, -largest, _NAN, _INF, -_INF)
    return st.sampled_from(edges) | st.floats(0, 2) | st.floats(width=32)


_NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    F.CPPTYPE_INT32: _whole(-(2**31), 2**31 - 1),
    F.CPPTYPE_INT64: _whole(-(2**63), 2**63 - 1),
    F.CPPTYPE_UINT32: _whole(0, 2**32 - 1),
    F.CPPTYPE_UINT64: _whole(0, 2**64 - 1),
    F.CPPTYPE_DOUBLE: _floats(1.7e308),
    F.CPPTYPE_FLOAT: _floats(3.4e38),
    F.CPPTYPE_BOOL: st.booleans(),
    F.CPPTYPE_ENUM: st.integers(-1, 12) | st.sampled_from([77, 2**31 - 1, -(2**31)]),
}


def _single(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(GetMessageClass(field.message_type), depth - 1)
    if field.type == F.TYPE_BYTES:
        return st.binary(max_size=40) | st.sampled_from([b"\xff" * 5000])
    if field.type == F.TYPE_STRING:
        return st.sampled_from(_TEXTS) | st.text(max_size=20)
    return _NUMBERS[field.cpp_type]


def _several(field: Any, depth: int) -> st.SearchStrategy[list[Any]]:
    one = _single(field, depth)
    many = st.tuples(one, st.sampled_from([_MANY, 257])).map(lambda drawn: [drawn[0]] * drawn[1])
    return st.lists(one, max_size=4) | st.lists(one, max_size=4) | many


@st.composite
def messages(
    draw: st.DrawFn, kind: type[Message], depth: int = _DEPTH, begun: Message | None = None
) -> Message:
    """Draws a message of a kind. begun: an honest message that some fields are drawn over."""
    message = kind()
    if begun is not None:
        message.CopyFrom(begun)
    fields: list[Any] = list(kind.DESCRIPTOR.fields)
    if depth <= 0 or not fields:
        return message
    for field in draw(st.lists(st.sampled_from(fields), max_size=_FIELDS, unique=True)):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            for key in draw(st.lists(_single(entry["key"], depth), max_size=3)):
                _put(getattr(message, field.name), key, draw(_single(entry["value"], depth)))
        elif field.is_repeated:
            message.ClearField(field.name)
            getattr(message, field.name).extend(draw(_several(field, depth)))
        elif field.message_type is None:
            setattr(message, field.name, draw(_single(field, depth)))
        else:
            inner = getattr(message, field.name)
            drawn = draw(messages(GetMessageClass(field.message_type), depth - 1, inner))
            inner.CopyFrom(drawn)
    return message


def _put(values: Any, key: Any, value: Any) -> None:
    if isinstance(value, Message):
        values[key].CopyFrom(value)
    else:
        values[key] = value


_CONFIG = generation_pb2.GenerationConfig(max_new_tokens=4)
_PROMPT = generation_pb2.Prompt(text="def main(")
_SAMPLING = generation_pb2.GenerationConfig(max_matching_ngram_size=2, top_k=0, max_length=100)
_ROWS = draft_pb2.SparseRows(ids=bytes(8), probabilities=b"\0\0\x80\x3f" * 2, counts=[1, 1])
_PROPOSAL = draft_pb2.Proposal(ids=[5, 6], q=_ROWS, alternatives=[{"at": 1, "id": 7}])
HONEST: dict[type[Message], list[Message]] = {
    target_pb2.GenerateRequest: [
        target_pb2.GenerateRequest(prompts=[_PROMPT], config=_CONFIG),
    ],
    vllm_engine_pb2.GenerateRequest: [
        vllm_engine_pb2.GenerateRequest(text="def main(", sampling_params={"max_tokens": 4}),
    ],
    target_pb2.TokenizeRequest: [target_pb2.TokenizeRequest(prompt=_PROMPT)],
    target_pb2.DetokenizeRequest: [target_pb2.DetokenizeRequest(token_ids=[{"ids": [5, 6]}])],
    target_pb2.SaveGenerationConfigRequest: [
        target_pb2.SaveGenerationConfigRequest(name="mine", config=_CONFIG)
    ],
    target_pb2.DetectWatermarkRequest: [
        target_pb2.DetectWatermarkRequest(
            texts=[{"text": "def main(x): return x + 1"}],
            watermarking_config={"greenlist": {"bias": 2.0}},
        )
    ],
    draft_pb2.DraftRequest: [
        draft_pb2.DraftRequest(
            open=draft_pb2.Open(prompt_ids=[5, 6, 7], sampling=_SAMPLING, max_length=100, k=3)
        ),
        draft_pb2.DraftRequest(commit=draft_pb2.Commit(base_len=3, next_id=8, k=3, outcomes=4)),
        draft_pb2.DraftRequest(commit=draft_pb2.Commit(base_len=4, next_id=9, k=2)),
    ],
    draft_pb2.DraftResponse: [
        draft_pb2.DraftResponse(opened={"epoch": 1, "kind": draft_pb2.DRAFTER_KIND_MODEL}),
        draft_pb2.DraftResponse(block=draft_pb2.Block(epoch=1, outcomes=[{"proposal": _PROPOSAL}])),
    ],
}
"""Messages of an honest call, in their order, for the kinds in which a random one comes not far."""


@st.composite
def calls(draw: st.DrawFn, method: Method) -> list[Message]:
    """Draws the messages of a call: wholly random, or an honest call with random parts."""
    honest = HONEST.get(method.request, [])
    if honest and draw(st.sampled_from([True, True, False])):
        return [
            draw(messages(method.request, begun=one)) if draw(st.booleans()) else one
            for one in honest
        ]
    least, most = (0, 4) if method.streams else (1, 1)
    return draw(st.lists(messages(method.request), min_size=least, max_size=most))
