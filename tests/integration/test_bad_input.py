"""A faulty request is refused before admission, by name; other callers do not notice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foredraft import AsyncClient, InvalidRequestError
from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire.limits import MAX_MESSAGE_BYTES
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import LoopbackTarget, named_fields, target_service
from tests.models import bundled, rows_of
from tests.premises import begins_again, in_time

Config, Strings, Ids = (
    generation_pb2.GenerationConfig,
    generation_pb2.Strings,
    generation_pb2.TokenIds,
)
IdLists = generation_pb2.TokenIdsList
Biases = generation_pb2.SequenceBiasList
NAN, INF = float("nan"), float("inf")
GENERATE = "/foredraft.v1.TargetService/Generate"


@pytest.fixture
async def target() -> AsyncIterator[LoopbackTarget]:
    model = bundled("target")
    async with target_service(rows_of(model.module, 4, 512), model) as service:
        yield service


def _request(prompt: Any = "def main(", top: dict[str, Any] | None = None, **config: Any) -> bytes:
    given = (
        generation_pb2.Prompt(text=prompt)
        if isinstance(prompt, str)
        else generation_pb2.Prompt(**prompt)
    )
    message = target_pb2.GenerateRequest(prompts=[given], config=Config(**config), **top or {})
    return message.SerializeToString()


def _ids(*ids: int) -> dict[str, Any]:
    return {"token_ids": Ids(ids=ids)}


def _field(number: int, payload: bytes) -> bytes:
    """Returns a length-delimited field as it travels."""
    length, sizes = len(payload), b""
    while length > 0x7F:
        sizes, length = sizes + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + sizes + bytes([length]) + payload


BAD: dict[str, tuple[bytes, set[str]]] = {
    "no prompt": (target_pb2.GenerateRequest().SerializeToString(), {"prompts"}),
    "empty text": (_request(""), {"prompts"}),
    "no ids": (_request(_ids()), {"prompts"}),
    "a prompt of nothing": (_request({}), {"prompts"}),
    "an id outside the vocabulary": (_request(_ids(5, 4096)), {"prompts"}),
    "an id outside 32 bits' sense": (_request(_ids(2**32 - 1)), {"prompts"}),
    "generated ids outside": (_request({"text": "a", "generated_ids": [9999]}), {"generated_ids"}),
    "longer than the context": (_request(_ids(*[7] * 600)), {"prompts"}),
    "far longer than the context": (_request("x = 1\n" * 200_000), {"prompts"}),
    "no room for what is wanted": (_request(max_new_tokens=510), {"max_new_tokens", "prompts"}),
    "a conversation without a template": (
        _request(
            {
                "chat": generation_pb2.Chat(
                    messages=[generation_pb2.ChatMessage(role="user", content="a")]
                )
            }
        ),
        {"chat"},
    ),
    "temperature 0 with sampling": (_request(do_sample=True, temperature=0.0), {"temperature"}),
    "temperature without sampling": (_request(temperature=0.5), {"temperature", "do_sample"}),
    "top_p without sampling": (_request(top_p=0.5), {"top_p", "do_sample"}),
    "a rule without sampling": (_request(top={"sampling_rule": 1}), {"sampling_rule", "do_sample"}),
    "no such rule": (_request(top={"sampling_rule": 77}, do_sample=True), {"sampling_rule"}),
    "several greedy sequences": (
        _request(num_return_sequences=3),
        {"num_return_sequences", "do_sample"},
    ),
    "far too many sequences": (
        _request(num_return_sequences=10**6, do_sample=True),
        {"num_return_sequences"},
    ),
    "lookup and draft length": (
        _request(prompt_lookup_num_tokens=3, num_assistant_tokens=0),
        {"prompt_lookup_num_tokens", "num_assistant_tokens"},
    ),
    "least above most": (
        _request(min_new_tokens=9, max_new_tokens=8),
        {"min_new_tokens", "max_new_tokens"},
    ),
    "least length above most": (
        _request(min_length=90, max_length=80),
        {"min_length", "max_length"},
    ),
    "forced and suppressed": (
        _request(forced_eos_token_id=Ids(ids=[5]), suppress_tokens=Ids(ids=[5, 6])),
        {"forced_eos_token_id", "suppress_tokens"},
    ),
    "forced and a bad word": (
        _request(forced_bos_token_id=5, bad_words_ids=IdLists(values=[Ids(ids=[5])])),
        {"forced_bos_token_id", "bad_words_ids"},
    ),
    "nothing left": (_request(suppress_tokens=Ids(ids=range(4096))), {"suppress_tokens"}),
    "NaN": (_request(do_sample=True, temperature=NAN), {"temperature"}),
    "infinity": (_request(repetition_penalty=INF), {"repetition_penalty"}),
    "minus infinity": (_request(do_sample=True, top_p=-INF), {"top_p"}),
    "NaN seconds": (_request(max_time=NAN), {"max_time"}),
    "a NaN bias": (
        _request(sequence_bias=Biases(values=[generation_pb2.SequenceBias(ids=[1], bias=NAN)])),
        {"sequence_bias"},
    ),
    "thousands of stop strings": (
        _request(stop_strings=Strings(values=["a"] * 5000)),
        {"stop_strings"},
    ),
    "an empty stop string": (_request(stop_strings=Strings(values=[""])), {"stop_strings"}),
    "an endless stop string": (
        _request(stop_strings=Strings(values=["a" * 5000])),
        {"stop_strings"},
    ),
    "thousands of bad words": (
        _request(bad_words_ids=IdLists(values=[Ids(ids=[1])] * 5000)),
        {"bad_words_ids"},
    ),
    "an endless draft": (_request(num_assistant_tokens=10**9), {"num_assistant_tokens"}),
    "log-probabilities of all": (
        _request(max_new_tokens=400, top={"logprobs": 4096}),
        {"logprobs"},
    ),
    "an endless name": (_request(top={"request_id": "x" * 1000}), {"request_id"}),
    "a field that is unknown": (_request() + b"\xf8\x07\x01", {"GenerateRequest field number 127"}),
    "a parameter that is unknown": (
        _request() + _field(3, b"\xf8\x07\x01"),
        {"GenerationConfig field number 127"},
    ),
    "text that is not UTF-8": (_field(2, _field(1, b"caf\xe9")), {"prompts.text"}),
    "a stop string that is not UTF-8": (
        _request(stop_strings=Strings(values=["caf#"])).replace(b"#", b"\xe9"),
        {"config.stop_strings.values"},
    ),
    "no message at all": (b"\xff" * 40, {"message"}),
    "a message cut off": (_request()[:-3] + b"\x12\x7f", {"message"}),
    "over the size limit": (_request("x" * (MAX_MESSAGE_BYTES + 1)), {"prompts"}),
}


async def _end(call: Any) -> grpc.aio.AioRpcError | None:
    """Reads a call to its end; returns the error that it ended with."""
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    return None


@begins_again
async def test_every_mistake_is_told_by_name_and_costs_others_nothing(
    target: LoopbackTarget,
) -> None:
    options = [("grpc.max_send_message_length", -1)]
    async with (
        AsyncClient(target.address) as client,
        grpc.aio.insecure_channel(target.address, options=options) as channel,
    ):
        want = await client.generate("def main(", max_new_tokens=400, eos_token_id=[])
        admitted = target.value("foredraft_prompt_tokens_total")
        running = asyncio.create_task(
            client.generate("def main(", max_new_tokens=400, eos_token_id=[])
        )
        await asyncio.sleep(0.05)
        call: Any = channel.unary_stream(GENERATE)
        for name, (raw, fields) in BAD.items():
            error = await _end(call(raw))
            assert error is not None, name
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (name, error.details())
            assert named_fields(error) == fields, name
            assert all(
                f.rpartition(".")[2].split()[-1] in (error.details() or "") for f in fields
            ), error.details()
        in_time(not running.done(), "it was not there to be disturbed")
        assert (await running).token_ids == want.token_ids
    assert (
        target.value("foredraft_rows_in_use") == target.value("foredraft_num_requests_running") == 0
    )
    assert target.value("foredraft_prompt_tokens_total") == 2 * admitted, "one of them was admitted"


async def test_the_sdk_says_the_same(target: LoopbackTarget) -> None:
    async with AsyncClient(target.address) as client:
        for fields, named in (
            ({"temperature": 0.5}, {"temperature", "do_sample"}),
            ({"max_new_tokens": 10**6}, {"max_new_tokens", "prompts"}),
            ({"stop_strings": ["a"] * 5000}, {"stop_strings"}),
        ):
            with pytest.raises(InvalidRequestError) as caught:
                await client.generate("def main(", **fields)
            assert caught.value.field in named
            assert set(caught.value.fields) == named
        with pytest.raises(InvalidRequestError, match="UTF-8"):
            await client.generate("caf\udce9")
        with pytest.raises(InvalidRequestError, match="limit"):
            await client.generate("x" * (MAX_MESSAGE_BYTES + 1))


_FLOATS = st.floats(width=32)
_INTS = st.integers(0, 2**32 - 1) | st.integers(0, 40)
_KINDS: dict[int, Any] = {
    3: _INTS,
    4: st.integers(0, 2**64 - 1),
    5: _FLOATS,
    6: _FLOATS,
    7: st.booleans(),
}
_PLAIN = {
    f.name: f for f in Config.DESCRIPTOR.fields if f.message_type is None and f.cpp_type in _KINDS
}


@st.composite
def _configs(draw: st.DrawFn) -> generation_pb2.GenerationConfig:
    names = draw(st.lists(st.sampled_from(sorted(_PLAIN)), unique=True, max_size=6))
    config = Config(**{name: draw(_KINDS[_PLAIN[name].cpp_type]) for name in names})
    for name in ("eos_token_id", "suppress_tokens", "forced_eos_token_id"):
        if draw(st.booleans()):
            getattr(config, name).ids.extend(draw(st.lists(st.integers(0, 12), max_size=4)))
    return config


async def test_any_parameters_are_served_or_refused_by_name() -> None:
    vocab = 10
    async with target_service(TableRows(random_table(vocab, 0)), table_model(vocab)) as target:

        async def attempt(config: generation_pb2.GenerationConfig) -> None:
            config.max_new_tokens = (
                min(config.max_new_tokens, 6) if config.HasField("max_new_tokens") else 4
            )
            message = target_pb2.GenerateRequest(
                prompts=[generation_pb2.Prompt(**_ids(1, 2))], config=config
            )
            async with grpc.aio.insecure_channel(target.address) as channel:
                open_call: Any = channel.unary_stream(GENERATE)
                call: Any = open_call(message.SerializeToString())
                error = await _end(call)
                assert error is None or error.code() is grpc.StatusCode.INVALID_ARGUMENT, (
                    config,
                    error,
                )
                assert error is None or named_fields(error), (config, error)

        loop = asyncio.get_running_loop()

        @settings(
            max_examples=150,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(_configs())
        def search(config: generation_pb2.GenerationConfig) -> None:
            asyncio.run_coroutine_threadsafe(attempt(config), loop).result(300)

        await asyncio.to_thread(search)
