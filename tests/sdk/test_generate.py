"""Every form of prompt goes out as it should, and every answer comes back as values."""

from collections.abc import Callable
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from foredraft import (
    AsyncClient,
    CallOptions,
    Chunk,
    Client,
    GenerationConfig,
    InvalidRequestError,
    Logprobs,
    Result,
)
from foredraft._encodings import ENCODING
from foredraft.v1 import generation_pb2
from tests.parameter_ids import parameter_id
from tests.sdk.fake_target import SEED, FakeTarget

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]


def test_a_single_prompt(target: Target, connect: Connect) -> None:
    fake = target()
    result = connect(fake.address).generate("def main(", max_new_tokens=5)
    assert isinstance(result, Result)
    assert (result.text, result.token_ids) == ("t1 t2 t3 t4 t5 ", (1, 2, 3, 4, 5))
    assert (result.finish_reason, result.prompt_tokens, result.sequence_index) == ("length", 3, 0)
    assert result.request_id == fake.requests[0].request_id != ""
    assert fake.requests[0].prompts[0].text == "def main("
    stats = result.stats
    assert (stats.rounds, stats.proposed, stats.accepted, stats.acceptance_histogram) == (
        2,
        4,
        3,
        (0, 1, 1),
    )
    assert (stats.acceptance_rate, stats.mean_acceptance_length) == (0.75, 2.5)
    assert (stats.drafter, stats.fallbacks, stats.seed, stats.sampling_rule) == (
        "model",
        {"late": 1},
        SEED,
        "greedy",
    )


def test_stream(target: Target, connect: Connect) -> None:
    with connect(target().address).stream("x", max_new_tokens=5, do_sample=True, seed=1) as stream:
        with pytest.raises(Exception, match="read it to its end first"):
            _ = stream.result
        chunks = list(stream)
        assert list(stream) == []  # past the end there is nothing, and no error
    first, last = chunks
    assert isinstance(first, Chunk)
    assert (first.text, first.token_ids, first.num_accepted) == ("t1 t2 t3 ", (1, 2, 3), 2)
    assert (first.text_offsets, first.finish_reason, first.logprobs) == ((0, 3, 6), None, ())
    assert first.origins == ("draft_model", "alternative", "target")
    assert last.finish_reason == "length"
    assert stream.result.text == first.text + last.text
    assert stream.result.origins == (*first.origins, "ngram", "target")
    assert (stream.result.stats.waited_s, stream.result.stats.hidden_s) == (0.25, 0.75)
    assert stream.result.stats.seed == 1


@pytest.mark.parametrize(
    "ids",
    [
        [5, 6],
        (5, 6),
        torch.tensor([5, 6]),
        np.array([5, 6]),
        [np.int64(5), np.int64(6)],
        list(torch.tensor([5, 6])),
    ],
    ids=["list", "tuple", "tensor", "array", "numpy scalars", "torch scalars"],
)
def test_ids(target: Target, connect: Connect, ids: Any) -> None:
    fake = target()
    assert isinstance(connect(fake.address).generate(ids), Result)
    assert fake.requests[0].prompts == [
        generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[5, 6]))
    ]


def test_a_conversation(target: Target, connect: Connect) -> None:
    fake = target()
    assert isinstance(connect(fake.address).generate(CHAT), Result)
    messages = fake.requests[0].prompts[0].chat.messages
    assert [(m.role, m.content) for m in messages] == [("system", "be brief"), ("user", "hello")]


@pytest.mark.parametrize(
    ("batch", "form"),
    [
        (["a", "b"], "text"),
        ([[1, 2], [3]], "token_ids"),
        (torch.tensor([[1, 2], [3, 4]]), "token_ids"),
        ([torch.tensor([1, 2]), torch.tensor([3])], "token_ids"),
        (np.array([[1, 2], [3, 4]]), "token_ids"),
        ([CHAT, CHAT], "chat"),
    ],
)
def test_a_batch_is_one_request(target: Target, connect: Connect, batch: Any, form: str) -> None:
    fake = target()
    results = connect(fake.address).generate(batch)
    assert [r.token_ids for r in results] == [(1, 2, 3, 4, 5), (11, 12, 13, 14, 15)]
    assert [r.sequence_index for r in results] == [0, 1]
    assert [p.WhichOneof("content") for r in fake.requests for p in r.prompts] == [form, form]


def test_a_batch_of_one_is_a_list(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    assert len(client.generate(["a"])) == 1
    assert len(client.generate(torch.tensor([[1, 2]]))) == 1


def test_several_sequences_come_prompt_by_prompt(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    more = {"do_sample": True, "num_return_sequences": 2}
    assert [r.token_ids[0] for r in client.generate("a", **more)] == [1, 11]
    assert [r.token_ids[0] for r in client.generate(["a", "b"], **more)] == [1, 11, 21, 31]
    with client.stream("a", **more) as stream:
        assert [c.sequence_index for c in stream] == [0, 1, 0, 1]
    assert len(stream.result) == 2


def test_the_arguments_that_are_no_parameters(target: Target, connect: Connect) -> None:
    fake = target()
    fields = {
        "seed": 2**64 - 1,
        "sampling_rule": "rejection",
        "logprobs": 1,
        "generated_ids": [8, 9],
    }
    result = connect(fake.address, metadata={"Authorization": "Bearer x"}).generate(
        "a", do_sample=True, **fields
    )
    request = fake.requests[0]
    assert (request.seed, request.logprobs) == (2**64 - 1, 1)
    assert request.sampling_rule == generation_pb2.SAMPLING_RULE_REJECTION
    assert list(request.prompts[0].generated_ids) == [8, 9]
    assert (result.stats.seed, result.stats.sampling_rule) == (2**64 - 1, "rejection")
    assert result.logprobs == (Logprobs(-0.5, ((1, -0.5),)),) * 5
    assert fake.metadata[0]["authorization"] == "Bearer x"


def test_generated_ids_of_a_batch(target: Target, connect: Connect) -> None:
    fake = target()
    connect(fake.address).generate(["a", "b"], generated_ids=[[1], [2, 3]])
    assert [list(p.generated_ids) for p in fake.requests[0].prompts] == [[1], [2, 3]]


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        b"x",
        3,
        None,
        [1.5],
        [-1],
        [2**32],
        [True],
        [[]],
        [1, "a"],
        ["a", 1],
        {"role": "user", "content": "x"},
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": 1, "content": "x"}],
        [{"role": "user", "content": "x", "name": 1}],
        [{"role": "user", "content": [1]}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 1}]}],
        [{"role": "user", "tool_calls": [1]}],
        [{"role": "user", "content": "x", "more": object()}],
        [{"role": "user", "content": "x"}, "x"],
    ],
    ids=parameter_id,
)
def test_what_is_no_prompt(target: Target, connect: Connect, inputs: Any) -> None:
    fake = target()
    with pytest.raises(InvalidRequestError) as raised:
        connect(fake.address).generate(inputs)
    assert raised.value.field == "inputs"
    assert not fake.requests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.5),
        ("seed", True),
        ("logprobs", -1),
        ("logprobs", True),
        ("sampling_rule", "greedy"),
        ("sampling_rule", "x"),
        ("generated_ids", [-1]),
        ("generated_ids", [[1]]),
        ("timeout", 0),
        ("timeout", -1.0),
        ("timeout", float("nan")),
    ],
)
def test_what_is_no_argument(target: Target, connect: Connect, name: str, value: Any) -> None:
    fake = target()
    with pytest.raises(InvalidRequestError, match=name) as raised:
        connect(fake.address).generate("a", **{name: value})
    assert raised.value.field == name
    assert not fake.requests


@pytest.mark.parametrize("value", [object(), {"a": object()}], ids=["object", "dict"])
@pytest.mark.parametrize("name", [*get_type_hints(CallOptions), "streamer"])
def test_what_no_argument_can_be_is_no_accident(
    target: Target, connect: Connect, name: str, value: Any
) -> None:
    fake = target()
    with pytest.raises(InvalidRequestError) as raised:
        connect(fake.address).generate([1] if name in ENCODING else "a", **{name: value})
    assert raised.value.field
    assert "object cannot" not in str(raised.value)
    assert not fake.requests


@pytest.mark.parametrize("argument", ["timeout", "max_retries"])
def test_what_no_client_can_have(argument: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequestError, match=f"{argument}='x'") as raised:
            kind("127.0.0.1:50052", **{argument: "x"})  # type: ignore[arg-type]
        assert raised.value.field == argument


def test_info(target: Target, connect: Connect) -> None:
    info = connect(target().address).info()
    assert (info.model, info.max_length, info.rows, info.drafts) == (
        "fake",
        512,
        4,
        {"draft:1": "ready"},
    )
    assert info.generation_config == GenerationConfig(temperature=0.5, top_k=0, eos_token_id=(2,))
    with pytest.raises(AttributeError):
        info.model = "other"


def test_a_closed_client_says_so(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    client.generate("a")
    client.close()
    with pytest.raises(Exception, match="the client is closed"):
        client.generate("a")
